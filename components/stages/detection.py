"""Stage ``detection``: a detector fine-tuned from one backbone, for one of three tasks."""

from typing import Any

from components import params
from components.benchmarks.detection.benchmark import run_recorded
from components.benchmarks.detection.data import (
    COCO_SEGMENTATION,
    LVIS_SEGMENTATION,
    VOC_DETECTION,
    DetectionSplit,
    read_coco,
    read_lvis,
    read_voc,
)
from components.core import paths
from components.dataset_titles import title_here
from components.entry import run_stage
from components.sources.manifest import read_manifest
from components.sources.readers import coco
from components.tracking import StageRun, used_splits

Data = tuple[DetectionSplit, DetectionSplit] | str  # training and test images, or why this run has none

CONTEXTS = {"train": "training", "val": "validation"}  # of the splits of COCO and LVIS

SECTIONS: dict[str, type[params.Section]] = {
    "coco_segmentation": params.CocoSegmentation,
    "lvis_segmentation": params.LvisSegmentation,
    "voc_detection": params.VocDetection,
}


def main(run: StageRun, settings: params.Detection) -> None:
    """Benchmark a backbone, ``run.item`` is ``TASK-BACKBONE``; empty results if this run lacks the data."""
    name, backbone = paths.benchmark_of(run.stage, run.item)
    task, read_data = TASKS[name]
    assert backbone is not None
    run_recorded(run, task, backbone, read_data(run, settings), settings)


def coco_data(run: StageRun, settings: params.CocoSegmentation) -> Data:
    """Return the images and objects of one captioned dataset."""
    dataset = settings.dataset
    manifest = read_manifest(paths.dataset_part("coco_segmentation"))
    if dataset not in manifest.captions:
        return f"this run has no captioned dataset `{dataset}`"
    root = manifest.captioned_root(dataset)
    files = [coco.annotation_path(root, "instances", split) for split in ("train", "val")]
    if absent := [path.name for path in files if not path.is_file()]:
        return f"`{dataset}` has no {absent[0]}"
    run.uses(*used_splits(title_here(dataset), manifest.captions[dataset], CONTEXTS))
    return read_coco(root, "train"), read_coco(root, "val")


def lvis_data(run: StageRun, _: params.LvisSegmentation) -> Data:
    """Return LVIS v1, whose images are COCO's."""
    manifest = read_manifest(paths.dataset_part("lvis_segmentation"))
    if "lvis" not in manifest.benchmarks:
        return "this run has no `lvis` data"
    run.uses(*used_splits(title_here("lvis"), manifest.benchmarks["lvis"], CONTEXTS))
    root, images_root = manifest.root_of("lvis"), manifest.lvis_images_root
    return read_lvis(root, "train", images_root), read_lvis(root, "val", images_root)


def voc_data(run: StageRun, settings: params.VocDetection) -> Data:
    """Return the sets of VOC that the section names."""
    manifest = read_manifest(paths.dataset_part("voc_detection"))
    roots = manifest.voc_roots
    for name in (*settings.train_sets, *settings.test_sets):
        year = name.partition("/")[0]
        if int(year) not in roots:
            return f"this run has no VOC{year}, which the set {name} needs"
    for context, sets in (("training", settings.train_sets), ("test", settings.test_sets)):
        for year, _, split in (name.partition("/") for name in sets):
            run.uses(
                *used_splits(title_here(f"voc{year}"), manifest.benchmarks[f"voc{year}"], {split: context})
            )
    train = read_voc(roots, settings.train_sets)
    return train, read_voc(roots, settings.test_sets, train.classes)


TASKS: dict[str, Any] = {
    "coco_segmentation": (COCO_SEGMENTATION, coco_data),
    "lvis_segmentation": (LVIS_SEGMENTATION, lvis_data),
    "voc_detection": (VOC_DETECTION, voc_data),
}


if __name__ == "__main__":
    run_stage(
        "detection", SECTIONS, main, tuple(SECTIONS), paths.exported_backbones, in_several_processes=True
    )
