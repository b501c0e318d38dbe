"""What pretraining leaves: figures and curves, and the model as one function of tensors."""

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.profiler import profile

from components.core.files import writing
from components.core.redaction import redacted
from components.data.selection import Selection
from components.objectives.interface import Objective
from components.tracking import StageRun
from components.training.profiling import write_profile
from components.training.state import History, Row, TrainingState


def log_profile(run: StageRun, profiled: profile) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for path in write_profile(profiled, Path(folder)):
            run.artifact(path, "profile")


def write_results(
    run: StageRun,
    state: TrainingState,
    selection: Selection,
    model: nn.Module,
    start_from: str | None,
    ran: Mapping[str, Any],
) -> None:
    for path in state.history.write_csv(run.output_dir):
        run.artifact(path)
    sizes = {
        "images": len(selection),
        "captions": selection.num_captions,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    start = {} if start_from is None else {"started_from": redacted(start_from)}
    run.metrics({**summary(state), **ran, **sizes, **start})
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "loss.png")
        draw_losses(picture, state.history)
        run.artifact(picture)


def summary(state: TrainingState) -> dict[str, Any]:
    """Return what goes into metrics.json: losses in nats per token, or per image where none is predicted.

    Perplexity is averaged over directions, and absent where no token is predicted, or not always from those
    before it.
    """
    train, val = state.history.train[-1], state.history.val[-1]
    parts = {
        name: value
        for name, value in val.items()
        if name not in ("iteration", "loss") and not name.startswith("voc07_")  # a measure of candidates
    }
    has_perplexity = parts.keys() <= {"captioning_forward", "captioning_backward", "masked_lm"}
    perplexity = {"perplexity": math.exp(min(val["loss"] / len(parts), 700.0))} if has_perplexity else {}
    return {
        "train_loss": train["loss"],
        "val_loss": val["loss"],
        "val": parts,
        **perplexity,
        "best_val_loss": min(row["loss"] for row in state.history.val),
        "iterations": state.iteration,
        "images_seen": state.num_images,
        "seconds": round(state.seconds, 3),
        "images_per_second": round(rate(state), 2),
        **{
            name: round(mean, 4)
            for name in ("data_wait_per_second", "core_seconds_per_second")
            if (mean := state.history.per_second(name)) is not None
        },
    }


def rate(state: TrainingState) -> float:
    """Return the images per second of the whole training, those of earlier starts included."""
    return state.num_images / state.seconds


def draw_losses(path: Path, history: History) -> None:
    """Write a PNG: training and validation loss above, learning rates below, by iteration."""
    figure = Figure(figsize=(8.0, 6.0), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    losses.plot(*_columns(history.train, "loss"), label="training", linewidth=1)
    losses.plot(*_columns(history.val, "loss"), label="validation", marker="o", markersize=4)
    losses.set(ylabel="loss")
    losses.legend(frameon=False)
    for part in ("backbone", "head"):
        rates.plot(*_columns(history.train, f"{part}_lr"), label=part, linewidth=1)
    rates.set(xlabel="iteration", ylabel="learning rate")
    rates.legend(frameon=False)
    for axes in (losses, rates):
        axes.spines[["top", "right"]].set_visible(False)
    with writing(path) as temporary:
        figure.savefig(temporary, format="png")


def _columns(rows: list[Row], name: str) -> tuple[list[float], list[float]]:
    kept = [row for row in rows if name in row]
    return [row["iteration"] for row in kept], [row[name] for row in kept]


class Logits(nn.Module):
    """Backbone and (forward) textual head of an objective.

    Shape:
        image ``(batch, 3, height, width)`` float32, and for heads that read captions
        caption_tokens ``(batch, length)`` int64 and caption_lengths ``(batch,)`` int64
        -> logits ``(batch, length, vocab_size)``, or ``(batch, vocab_size)`` without captions
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.visual = objective.visual
        self.textual = objective.get_submodule("textual")

    def forward(
        self, image: Tensor, caption_tokens: Tensor | None = None, caption_lengths: Tensor | None = None
    ) -> Tensor:
        """Return logits of the next token at each position, or of the labels.

        Every input has a name of its own: torch.export matches shapes with them one by one.
        """
        caption = () if caption_tokens is None else (caption_tokens, caption_lengths)
        return self.textual(self.visual(image), *caption)


def logits_inputs(objective: Objective, batch: Mapping[str, Any]) -> list[Tensor]:
    """Return what ``Logits(objective)`` takes, from a batch of the loader for this objective."""
    names = ["image", "masked_tokens" if "masked_tokens" in batch else "caption_tokens", "caption_lengths"]
    reads_captions = hasattr(objective.get_submodule("textual"), "embedding")
    return [batch[name] for name in (names if reads_captions else names[:1])]
