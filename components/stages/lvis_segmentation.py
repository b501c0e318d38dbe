"""Stage ``lvis_segmentation``: Mask R-CNN fine-tuned from one backbone on LVIS v1."""

import torch

from components import machine, params, paths
from components.benchmarks.detection.benchmark import run_benchmark, write_files, write_nothing
from components.benchmarks.detection.data import read_lvis
from components.benchmarks.detection.task import LVIS_SEGMENTATION, BackboneWeights
from components.entry import run_stage
from components.export.backbone import load_backbone
from components.sources.manifest import read_manifest
from components.tracking import StageRun
from components.training.distributed import current

SECTIONS = (params.LvisSegmentation,)


def main(run: StageRun, settings: params.LvisSegmentation) -> None:
    """Benchmark the backbone ``run.item``, from the newest checkpoint of this training if there is one.

    Several processes may do so together (components.training.distributed); the first one writes.
    """
    assert run.item is not None
    manifest = read_manifest(paths.DATASETS_MANIFEST)
    if manifest.lvis is None:
        _write_nothing(run, "this run has no `lvis` data")
        return
    root, images_root = manifest.root_of("lvis"), manifest.lvis_images_root
    train, test = read_lvis(root, "train", images_root), read_lvis(root, "val", images_root)
    backbone, metadata = load_backbone(paths.backbone_path(run.item))
    outcome = run_benchmark(
        LVIS_SEGMENTATION,
        train,
        test,
        BackboneWeights(metadata["architecture"], backbone.state_dict()),
        settings,
        scratch_dir=paths.SCRATCH_DIR / LVIS_SEGMENTATION.name,
        device=torch.device(machine.device_name()),
        num_workers=machine.num_cpus(),
        processes=current(),
        log=run.log,
    )
    if outcome is None:
        return
    title = f"{LVIS_SEGMENTATION.name} from {run.item}, {settings.engine}"
    for path in write_files(outcome, test, settings, run.output_dir, title):
        run.artifact(path)
    run.metrics(outcome.figures())
    print(f"{title}: {outcome.headline(LVIS_SEGMENTATION)}", flush=True)


def _write_nothing(run: StageRun, reason: str) -> None:
    """Empty results, and the run goes on."""
    if not current().is_first:
        return
    write_nothing(LVIS_SEGMENTATION, run.output_dir, reason)
    run.metrics({"not_run": reason})
    print(f"{LVIS_SEGMENTATION.name} is not run: {reason}", flush=True)


if __name__ == "__main__":
    run_stage("lvis_segmentation", SECTIONS, main, paths.exported_backbones, in_several_processes=True)
