"""Stage ``coco_segmentation``: Mask R-CNN fine-tuned from one backbone on COCO's objects."""

from components import params
from components.benchmarks.detection.data import DetectionSplit, read_coco
from components.benchmarks.detection.recorded import run_recorded
from components.benchmarks.detection.task import COCO_SEGMENTATION
from components.core import paths
from components.entry import run_stage
from components.sources.manifest import read_manifest
from components.sources.readers import coco
from components.tracking import StageRun

SECTIONS = (params.CocoSegmentation,)


def main(run: StageRun, settings: params.CocoSegmentation) -> None:
    """Benchmark the backbone ``run.item``; empty results if this run has no objects of that dataset."""
    assert run.item is not None
    run_recorded(run, COCO_SEGMENTATION, run.item, _data(settings.dataset), settings)


def _data(dataset: str) -> tuple[DetectionSplit, DetectionSplit] | str:
    manifest = read_manifest(paths.dataset_part("images", dataset))
    if dataset not in manifest.captions:
        return f"this run has no captioned dataset `{dataset}`"
    root = manifest.captioned_root(dataset)
    files = [coco.annotation_path(root, "instances", split) for split in ("train", "val")]
    if absent := [path.name for path in files if not path.is_file()]:
        return f"`{dataset}` has no {absent[0]}"
    return read_coco(root, "train"), read_coco(root, "val")


if __name__ == "__main__":
    run_stage("coco_segmentation", SECTIONS, main, paths.exported_backbones, in_several_processes=True)
