"""Stage ``voc_detection``: Faster R-CNN C4 fine-tuned from one backbone on VOC."""

import torch

from components import machine, params, paths
from components.benchmarks.detection.benchmark import run_benchmark, write_files, write_nothing
from components.benchmarks.detection.data import read_voc
from components.benchmarks.detection.task import VOC_DETECTION, BackboneWeights
from components.entry import run_stage
from components.export.backbone import load_backbone
from components.sources.manifest import Manifest, read_manifest
from components.tracking import StageRun
from components.training.distributed import current

SECTIONS = (params.VocDetection,)


def main(run: StageRun, settings: params.VocDetection) -> None:
    """Benchmark the backbone ``run.item``, from the newest checkpoint of this training if there is one.

    Several processes may do so together (components.training.distributed); the first one writes.
    """
    assert run.item is not None
    manifest = read_manifest(paths.DATASETS_MANIFEST)
    if reason := _reason_not_run(manifest, settings):
        _write_nothing(run, reason)
        return
    roots = manifest.voc_roots
    train = read_voc(roots, settings.train_sets)
    test = read_voc(roots, settings.test_sets, train.classes)
    backbone, metadata = load_backbone(paths.backbone_path(run.item))
    outcome = run_benchmark(
        VOC_DETECTION,
        train,
        test,
        BackboneWeights(metadata["architecture"], backbone.state_dict()),
        settings,
        scratch_dir=paths.SCRATCH_DIR / VOC_DETECTION.name,
        device=torch.device(machine.device_name()),
        num_workers=machine.num_cpus(),
        processes=current(),
        log=run.log,
    )
    if outcome is None:
        return
    title = f"{VOC_DETECTION.name} from {run.item}, {settings.engine}"
    for path in write_files(outcome, test, settings, run.output_dir, title):
        run.artifact(path)
    run.metrics(outcome.figures())
    print(f"{title}: {outcome.headline(VOC_DETECTION)}", flush=True)


def _reason_not_run(manifest: Manifest, settings: params.VocDetection) -> str | None:
    """What this run's datasets lack for this benchmark; None if nothing."""
    for name in (*settings.train_sets, *settings.test_sets):
        year = name.partition("/")[0]
        if int(year) not in manifest.voc_roots:
            return f"this run has no VOC{year}, which the set {name} needs"
    return None


def _write_nothing(run: StageRun, reason: str) -> None:
    """Empty results, and the run goes on."""
    if not current().is_first:
        return
    write_nothing(VOC_DETECTION, run.output_dir, reason)
    run.metrics({"not_run": reason})
    print(f"{VOC_DETECTION.name} is not run: {reason}", flush=True)


if __name__ == "__main__":
    run_stage("voc_detection", SECTIONS, main, paths.exported_backbones, in_several_processes=True)
