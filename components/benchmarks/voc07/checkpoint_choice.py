"""Which of pretraining's checkpoints is the best, and the table and picture of all of them."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from components import params
from components.benchmarks.shared.files import write_csv
from components.core.errors import InputError
from components.core.files import writing


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that pretraining kept, and what is known of it.

    Attributes:
        iteration: iterations it was trained for.
        path: its captioner file.
        val_loss: of pretraining's validation.
        test_map: VOC07 mAP in percent on the test split; None if not measured.
        trainval_map: the same, cross-validated on the trainval split.
    """

    iteration: int
    path: Path
    val_loss: float
    test_map: float | None = None
    trainval_map: float | None = None


def read_candidates(folder: Path, val_csv: Path) -> list[Candidate]:
    """The captioner files of ``folder`` with their validation losses, by iteration.

    Raises:
        InputError: if there is none, or one without a row in ``val_csv``.
    """
    with open(val_csv, encoding="utf-8", newline="") as file:
        losses = {int(row["iteration"]): float(row["loss"]) for row in csv.DictReader(file)}
    candidates = []
    for path in sorted(folder.glob("iteration_*.safetensors")):
        iteration = int(path.stem.removeprefix("iteration_"))
        if iteration not in losses:
            raise InputError(f"{path}: {val_csv} has no validation of it; run the pretrain stage again")
        candidates.append(Candidate(iteration, path, losses[iteration]))
    if not candidates:
        raise InputError(f"{folder}: no checkpoints to choose from; run the pretrain stage")
    return candidates


def score(candidate: Candidate, select: params.Select) -> float:
    """What ``select`` goes by: higher is better, but for a validation loss."""
    if select.by == "last":
        return candidate.iteration
    if select.by == "val_loss":
        return candidate.val_loss
    found = candidate.test_map if select.split == "test" else candidate.trainval_map
    assert found is not None
    return found


def choose(candidates: Sequence[Candidate], select: params.Select) -> Candidate:
    """The best candidate; of equally good ones the one trained longest."""
    sign = -1 if select.by == "val_loss" else 1
    return max(candidates, key=lambda candidate: (sign * score(candidate, select), candidate.iteration))


def criterion(select: params.Select) -> str:
    """What ``select`` goes by, for people."""
    if select.by == "voc07":
        return "VOC07 mAP, " + ("test" if select.split == "test" else "cross-validated on trainval")
    return "validation loss" if select.by == "val_loss" else "iteration"


def write_table(path: Path, candidates: Sequence[Candidate], select: params.Select) -> None:
    """``iteration,score,val_loss,test_mAP,trainval_mAP,chosen``; mAP in percent, empty if not measured."""
    chosen = choose(candidates, select)
    rows = []
    for candidate in candidates:
        figures = (f"{value:.6g}" for value in (score(candidate, select), candidate.val_loss))
        maps = ("" if value is None else f"{value:.4f}" for value in _maps(candidate))
        rows.append((candidate.iteration, *figures, *maps, "yes" if candidate is chosen else "no"))
    write_csv(path, ("iteration", "score", "val_loss", "test_mAP", "trainval_mAP", "chosen"), rows)


def draw(path: Path, candidates: Sequence[Candidate], select: params.Select) -> None:
    """A PNG: VOC07 mAP, where it was measured, and validation loss by iteration; the chosen one marked."""
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


def _maps(candidate: Candidate) -> tuple[float | None, float | None]:
    return candidate.test_map, candidate.trainval_map
