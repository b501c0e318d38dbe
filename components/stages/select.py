"""Stage ``select``: the best of the models that pretraining kept, and its backbone, for later stages."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from components import params
from components.benchmarks.voc07.checkpoint_choice import (
    Candidate,
    choose,
    criterion,
    draw,
    read_candidates,
    write_table,
)
from components.benchmarks.voc07.measured import Measured, write_measured
from components.benchmarks.voc07.protocol import Voc07Benchmark
from components.benchmarks.voc07.svm import ClassResult, mean_ap_percent
from components.core import paths
from components.core.tensor_files import tensors_sha256
from components.entry import run_stage
from components.export.backbone import example_images, export_backbone, load_backbone
from components.objectives.saved import copy_captioner, load_captioner
from components.tracking import StageRun

SECTIONS = (params.Select, params.Voc07, params.Caption)


def main(run: StageRun, select: params.Select, voc07: params.Voc07, caption: params.Caption) -> None:
    """Measure the candidates if the choice goes by that; copy the best one and write its backbone."""
    candidates = read_candidates(paths.CANDIDATES_DIR, paths.stage_dir("pretrain") / "val.csv")
    benchmark = Voc07Benchmark(voc07) if select.by == "voc07" else None
    found: dict[int, Measured] = {}  # by iteration
    if benchmark:
        found = {candidate.iteration: _measure(candidate, benchmark) for candidate in candidates}
        candidates = [_noted(run, candidate, found[candidate.iteration]) for candidate in candidates]
    chosen = choose(candidates, select)
    copy_captioner(chosen.path, paths.CAPTIONER, caption.image_size, caption.antialias)
    backbone_path = paths.backbone_path(params.PRETRAINED)
    backbone, metadata = _export(chosen.path, backbone_path)
    key = benchmark.key(backbone) if benchmark else ""
    write_measured(paths.CHOSEN_VOC07, found.get(chosen.iteration), key)  # `voc07` takes them
    run.model("backbone", backbone, example_images())
    run.artifact(backbone_path)
    write_table(run.output_dir / "checkpoints.csv", candidates, select)
    draw(run.output_dir / "checkpoints.png", candidates, select)
    for name in ("checkpoints.csv", "checkpoints.png"):
        run.artifact(run.output_dir / name)
    figures = {"val_loss": chosen.val_loss, "mAP": chosen.test_map, "trainval_mAP": chosen.trainval_map}
    run.metrics(
        {
            "iteration": chosen.iteration,
            "criterion": criterion(select),
            "num_candidates": len(candidates),
            "feature_size": int(metadata["feature_size"]),
            "num_parameters": sum(parameter.numel() for parameter in backbone.parameters()),
            "file_bytes": backbone_path.stat().st_size,
            **{name: value for name, value in figures.items() if value is not None},
        }
    )
    print(f"Checkpoint chosen by {criterion(select)}: iteration {chosen.iteration}", flush=True)


def _measure(candidate: Candidate, benchmark: Voc07Benchmark) -> Measured:
    """Measure the backbone file that the candidate would become."""
    with tempfile.TemporaryDirectory() as folder:
        backbone, _ = _export(candidate.path, Path(folder, "backbone.safetensors"))
    measured = benchmark.measure(backbone)
    test_map = mean_ap_percent(measured.results)
    print(f"iteration {candidate.iteration}: VOC07 mAP {test_map:.2f} % on test", flush=True)
    return measured


def _noted(run: StageRun, candidate: Candidate, measured: Measured) -> Candidate:
    """Log the candidate's mAPs and return it with them."""
    test_map, trainval_map = mean_ap_percent(measured.results), _cross_validated(measured.results)
    run.log({"mAP": test_map, "trainval_mAP": trainval_map}, candidate.iteration)
    return replace(candidate, test_map=test_map, trainval_map=trainval_map)


def _export(captioner: Path, path: Path) -> tuple[nn.Module, dict[str, str]]:
    """Write the backbone of a captioner file without its textual head; return it as it is read back."""
    objective, config = load_captioner(captioner)
    details = {
        "objective": config.objective.name,
        "pretraining_config": config.model_dump_json(),
        # Not of the header: a change of how the captioner captions is none of the backbone.
        "captioner_tensors_sha256": tensors_sha256(captioner),
    }
    cnn = objective.visual.get_submodule("cnn")
    export_backbone(cnn, path, config.backbone.name, params.PRETRAINED, details)
    return load_backbone(path)


def _cross_validated(results: list[ClassResult]) -> float:
    """Mean over classes of the AP by which the SVM's cost was chosen, in percent."""
    return 100.0 * float(np.mean([max(result.validation_aps) for result in results]))


if __name__ == "__main__":
    run_stage("select", SECTIONS, main)
