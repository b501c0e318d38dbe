"""All files of one classification result, or of one that this run cannot have."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.benchmarks.classification.picture import draw_results
from components.benchmarks.classification.results import (
    CLASS_COLUMNS,
    CURVE_COLUMNS,
    PREDICTION_COLUMNS,
    Head,
    curve_rows,
    write_class_table,
    write_curves,
    write_predictions,
)
from components.benchmarks.empty_picture import draw_nothing
from components.benchmarks.tables import write_csv
from components.sources.readers.types import ClassifiedImages
from components.training.state import TrainingState

NAMES = ("train.csv", "val.csv", "classes.csv", "predictions.csv", "results.png")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training gave.

    Attributes:
        title: for people.
        state: after the last iteration.
        heads: one or several, the one that is reported first.
        epochs: of the whole training.
        train_labels: of the training images.
        val: the validation images.
        predicted: their likeliest classes by the first head ``(num_images,)``.
        groups: top-1 in percent of groups of classes, by name.
    """

    title: str
    state: TrainingState
    heads: Sequence[Head]
    epochs: int
    train_labels: NDArray[np.int64]
    val: ClassifiedImages
    predicted: NDArray[np.int64]
    groups: dict[str, float] | None = None

    def figures(self) -> dict[str, Any]:
        """What goes into metrics.json beside the accuracies; losses are those of the first head.

        They are absent where it has diverged and others have not.
        """
        state, loss = self.state, "loss" + self.heads[0].name
        last = {"train_loss": state.history.train[-1], "val_loss": state.history.val[-1]}
        return {
            **{name: row[loss] for name, row in last.items() if loss in row},
            "epochs": self.epochs,
            "iterations": state.iteration,
            "images_seen": state.num_images,
            "seconds": round(state.seconds, 1),
            "images_per_second": round(state.num_images / state.seconds, 2),
            "num_train": len(self.train_labels),
            "num_val": len(self.val.labels),
            "num_classes": len(self.val.classes),
        }


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Write the files NAMES into ``folder``, each atomically."""
    val, history = outcome.val, outcome.state.history
    epoch = outcome.state.iteration // outcome.epochs  # iterations of one
    write_curves(folder, history, outcome.heads, epoch)
    write_class_table(folder / "classes.csv", val, outcome.train_labels, outcome.predicted)
    write_predictions(folder / "predictions.csv", val.classes, val.labels, outcome.predicted)
    draw_results(
        folder / "results.png",
        outcome.title,
        curve_rows(history.train, outcome.heads, epoch),
        curve_rows(history.val, outcome.heads, epoch),
        val.classes,
        val.labels,
        outcome.predicted,
        outcome.groups,
    )


def write_nothing(folder: Path, title: str, reason: str) -> None:
    """The same files without rows, and a picture that says why: DVC wants all outputs of a stage."""
    for name in ("train.csv", "val.csv"):
        write_csv(folder / name, CURVE_COLUMNS, ())
    write_csv(folder / "classes.csv", CLASS_COLUMNS, ())
    write_csv(folder / "predictions.csv", PREDICTION_COLUMNS, ())
    draw_nothing(folder / "results.png", title, reason)
