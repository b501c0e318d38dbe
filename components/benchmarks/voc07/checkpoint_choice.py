"""The choice among pretraining's checkpoints, and the table and picture of all of them.

The paper's is the one with the best VOC07 mAP on the test split; ``select`` in params.yaml says what this run
goes by. A backbone is measured as the file that it would become.
"""

import csv
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

from components import params
from components.benchmarks.shared.neighbours import NEIGHBOURS, votes
from components.benchmarks.voc07.protocol import Extracted, Voc07Benchmark, average_precision
from components.benchmarks.voc07.results import Measured, mean_ap_percent
from components.core import machine
from components.core.errors import InputError
from components.core.files import write_csv, writing
from components.core.tensor_files import tensors_sha256
from components.models.backbones import export_backbone, load_backbone
from components.objectives.saved import load_captioner


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that pretraining kept, and what is known of it.

    Attributes:
        iteration: iterations it was trained for.
        path: its captioner file.
        val_loss: of pretraining's validation.
        test_map: VOC07 mAP in percent on the test split; None if not measured.
        trainval_map: the same, cross-validated on the trainval split.
        measured: what these two are of.
    """

    iteration: int
    path: Path
    val_loss: float
    test_map: float | None = None
    trainval_map: float | None = None
    measured: Measured | None = None

    def figures(self) -> dict[str, float]:
        """Return what is known, as metrics.json has it."""
        known = {"val_loss": self.val_loss, "mAP": self.test_map, "trainval_mAP": self.trainval_map}
        return {name: value for name, value in known.items() if value is not None}


def read_candidates(folder: Path, val_csv: Path) -> list[Candidate]:
    """Return the captioner files of ``folder`` with their validation losses, by iteration.

    Raises:
        InputError: if there is none, or one without a row in ``val_csv``.
    """
    with open(val_csv, encoding="utf-8", newline="") as file:
        losses = {int(row["iteration"]): float(row["loss"]) for row in csv.DictReader(file)}
    candidates = []
    for path in sorted(folder.glob("iteration_*.safetensors")):
        iteration = _iteration(path)
        if iteration not in losses:
            raise InputError(f"{path}: {val_csv} has no validation of it; run the pretrain stage again")
        candidates.append(Candidate(iteration, path, losses[iteration]))
    if not candidates:
        raise InputError(f"{folder}: no checkpoints to choose from; run the pretrain stage")
    return candidates


def _iteration(path: Path) -> int:
    return int(path.stem.removeprefix("iteration_"))


def measure_file(path: Path, benchmark: Voc07Benchmark) -> tuple[Measured, float, float]:
    """Return results of the backbone file that a candidate's would become, mAP on test and on trainval."""
    with tempfile.TemporaryDirectory() as folder:
        backbone, _ = export(path, Path(folder, "backbone.safetensors"))
    extracted = benchmark.extract(backbone)
    measured = benchmark.evaluate(extracted)
    trainval_map = 100.0 * float(np.mean([max(result.validation_aps) for result in measured.results]))
    test_map = mean_ap_percent(measured.results)
    maps = f"{trainval_map:.2f} % on trainval, cross-validated; {test_map:.2f} % on test"
    near = f"{_neighbours_map(extracted):.2f} % by {NEIGHBOURS[0]} nearest neighbours"
    print(f"iteration {_iteration(path)}: VOC07 mAP {maps}, {near}", flush=True)
    return measured, test_map, trainval_map


def _neighbours_map(extracted: Extracted) -> float:
    """Return the kNN probe's mAP in percent."""
    trainval, test, few = extracted.trainval, extracted.test, NEIGHBOURS[:1]
    shares = votes(trainval.features, trainval.labels > 0, test.features, machine.device_name(), few)
    by_class = zip(test.labels.T, shares[few[0]].T, strict=True)
    return 100.0 * float(np.mean([average_precision(labels, scores) for labels, scores in by_class]))


def measure(candidate: Candidate, benchmark: Voc07Benchmark) -> Candidate:
    """Return the candidate with its mAPs, and what they are of."""
    measured, test_map, trainval_map = measure_file(candidate.path, benchmark)
    return replace(candidate, test_map=test_map, trainval_map=trainval_map, measured=measured)


def export(captioner: Path, path: Path) -> tuple[nn.Module, dict[str, str]]:
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


def score(candidate: Candidate, select: params.Select) -> float:
    """Return what ``select`` chooses by: higher is better, but for a validation loss."""
    if select.by == "last":
        return candidate.iteration
    if select.by == "val_loss":
        return candidate.val_loss
    found = candidate.test_map if select.split == "test" else candidate.trainval_map
    assert found is not None
    return found


def choose(candidates: Sequence[Candidate], select: params.Select) -> Candidate:
    """Return the best candidate; of equally good ones the one trained longest."""
    sign = -1 if select.by == "val_loss" else 1
    return max(candidates, key=lambda candidate: (sign * score(candidate, select), candidate.iteration))


def criterion(select: params.Select) -> str:
    """Say what ``select`` chooses by."""
    if select.by == "voc07":
        return "VOC07 mAP, " + ("test" if select.split == "test" else "cross-validated on trainval")
    return "validation loss" if select.by == "val_loss" else "iteration"


def write_table(path: Path, candidates: Sequence[Candidate], select: params.Select) -> None:
    """Write ``iteration,score,val_loss,test_mAP,trainval_mAP,chosen``; mAP in percent, empty if unknown."""
    chosen = choose(candidates, select)
    rows = []
    for candidate in candidates:
        figures = (f"{value:.6g}" for value in (score(candidate, select), candidate.val_loss))
        found = (candidate.test_map, candidate.trainval_map)
        maps = ("" if value is None else f"{value:.4f}" for value in found)
        rows.append((candidate.iteration, *figures, *maps, "yes" if candidate is chosen else "no"))
    write_csv(path, ("iteration", "score", "val_loss", "test_mAP", "trainval_mAP", "chosen"), rows)


def draw(path: Path, candidates: Sequence[Candidate], select: params.Select) -> None:
    """Write a PNG: VOC07 mAP, if it was measured, and validation loss by iteration, the chosen one marked."""
    chosen = choose(candidates, select)
    curves: dict[str, dict[str, list[float | None]]] = {
        "VOC07 mAP (%)": {
            "test": [candidate.test_map for candidate in candidates],
            "trainval, cross-validated": [candidate.trainval_map for candidate in candidates],
        },
        "validation loss": {"validation": [candidate.val_loss for candidate in candidates]},
    }
    if candidates[0].test_map is None:
        del curves["VOC07 mAP (%)"]
    figure = Figure(figsize=(7.0, 1.0 + 2.4 * len(curves)), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    iterations = [candidate.iteration for candidate in candidates]
    for axes, (title, lines) in zip(panels, curves.items(), strict=True):
        for label, values in lines.items():
            axes.plot(iterations, values, marker="o", label=label)
        axes.axvline(chosen.iteration, color="black", linestyle="--", linewidth=1, label="chosen")
        axes.set_ylabel(title)
        axes.legend(frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_title(f"Checkpoint {chosen.iteration:,}, chosen by {criterion(select)}", fontsize=11)
    panels[-1].set(xlabel="iteration", xticks=iterations)
    with writing(path) as temporary:
        figure.savefig(temporary, format="png")
