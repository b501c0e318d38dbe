"""Stage ``coco_segmentation``: Mask R-CNN fine-tuned from one backbone on COCO's objects."""

import torch

from components import machine, params, paths
from components.benchmarks.detection.benchmark import run_benchmark, write_files, write_nothing
from components.benchmarks.detection.data import read_coco
from components.benchmarks.detection.task import COCO_SEGMENTATION, BackboneWeights
from components.entry import run_stage
from components.export.backbone import load_backbone
from components.sources import coco
from components.sources.manifest import Manifest, read_manifest
from components.tracking import StageRun
from components.training.distributed import current

SECTIONS = (params.CocoSegmentation,)


def main(run: StageRun, settings: params.CocoSegmentation) -> None:
    """Benchmark the backbone ``run.item``, from the newest checkpoint of this training if there is one.

    Several processes may do so together (components.training.distributed); the first one writes.
    """
    assert run.item is not None
    manifest = read_manifest(paths.DATASETS_MANIFEST)
    if reason := _reason_not_run(manifest, settings):
        _write_nothing(run, reason)
        return
    root = manifest.captioned_root(settings.dataset)
    train, test = read_coco(root, "train"), read_coco(root, "val")
    backbone, metadata = load_backbone(paths.backbone_path(run.item))
    outcome = run_benchmark(
        COCO_SEGMENTATION,
        train,
        test,
        BackboneWeights(metadata["architecture"], backbone.state_dict()),
        settings,
        scratch_dir=paths.SCRATCH_DIR / COCO_SEGMENTATION.name,
        device=torch.device(machine.device_name()),
        num_workers=machine.num_cpus(),
        processes=current(),
        log=run.log,
    )
    if outcome is None:
        return
    title = f"{COCO_SEGMENTATION.name} from {run.item}, {settings.engine}"
    for path in write_files(outcome, test, settings, run.output_dir, title):
        run.artifact(path)
    run.metrics(outcome.figures())
    print(f"{title}: {outcome.headline(COCO_SEGMENTATION)}", flush=True)


def _reason_not_run(manifest: Manifest, settings: params.CocoSegmentation) -> str | None:
    """What this run's datasets lack for this benchmark; None if nothing."""
    if settings.dataset not in manifest.captions:
        return f"this run has no captioned dataset `{settings.dataset}`"
    root = manifest.captioned_root(settings.dataset)
    files = [coco.annotation_path(root, "instances", split) for split in ("train", "val")]
    absent = [path.name for path in files if not path.is_file()]
    return f"`{settings.dataset}` has no {absent[0]}" if absent else None


def _write_nothing(run: StageRun, reason: str) -> None:
    """Empty results, and the run goes on."""
    if not current().is_first:
        return
    write_nothing(COCO_SEGMENTATION, run.output_dir, reason)
    run.metrics({"not_run": reason})
    print(f"{COCO_SEGMENTATION.name} is not run: {reason}", flush=True)


if __name__ == "__main__":
    run_stage("coco_segmentation", SECTIONS, main, paths.exported_backbones, in_several_processes=True)
