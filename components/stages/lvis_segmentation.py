"""Stage ``lvis_segmentation``: Mask R-CNN fine-tuned from one backbone on LVIS v1."""

from components import params
from components.benchmarks.detection.data import DetectionSplit, read_lvis
from components.benchmarks.detection.recorded import run_recorded
from components.benchmarks.detection.task import LVIS_SEGMENTATION
from components.core import paths
from components.entry import run_stage
from components.sources.manifest import read_manifest
from components.tracking import StageRun

SECTIONS = (params.LvisSegmentation,)


def main(run: StageRun, settings: params.LvisSegmentation) -> None:
    """Benchmark the backbone ``run.item``; empty results if this run has no LVIS."""
    assert run.item is not None
    run_recorded(run, LVIS_SEGMENTATION, run.item, _data(), settings)


def _data() -> tuple[DetectionSplit, DetectionSplit] | str:
    manifest = read_manifest(paths.dataset_part("lvis"))
    if "lvis" not in manifest.benchmarks:
        return "this run has no `lvis` data"
    root, images_root = manifest.root_of("lvis"), manifest.lvis_images_root
    return read_lvis(root, "train", images_root), read_lvis(root, "val", images_root)


if __name__ == "__main__":
    run_stage("lvis_segmentation", SECTIONS, main, paths.exported_backbones, in_several_processes=True)
