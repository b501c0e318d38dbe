"""The files in which classification results are kept: figures, tables that DVC plots."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.benchmarks.tables import write_csv
from components.sources.readers.types import ClassifiedImages
from components.training.state import History, Row

FIGURES = ("loss", "top1", "top5")
CURVE_COLUMNS = ("epoch", "learning_rate", *FIGURES)
CLASS_COLUMNS = ("class", "top1", "train_images", "val_images")
PREDICTION_COLUMNS = ("actual", "predicted")
MAX_CONFUSED = 40  # classes of a confusion matrix that one can still read
OTHER = "(other)"


@dataclass(frozen=True, slots=True)
class Head:
    """A linear head as results name it.

    Attributes:
        name: the end of its figures' names; empty for the first head, which has a loss of its own.
        learning_rate: the highest of its schedule.
    """

    name: str
    learning_rate: float


def accuracy(labels: NDArray[np.int64], ranked: NDArray[np.int64]) -> dict[str, float]:
    """``top1`` and ``top5`` in percent, from labels ``(num_images,)`` and classes ``(num_images, k)``."""
    right = ranked == labels[:, None]
    return {"top1": 100.0 * float(right[:, 0].mean()), "top5": 100.0 * float(right.any(axis=1).mean())}


def curve_rows(rows: Sequence[Row], heads: Sequence[Head], epoch: int) -> list[dict[str, float]]:
    """Rows of a history as ``epoch, learning_rate, loss, top1, top5``, a row a head and a moment.

    Figures that a head no longer has, because it has diverged, are left out of its rows.

    Args:
        rows: of training or of validation.
        heads: several, or one whose figures have plain names.
        epoch: iterations of one.
    """
    return [
        {
            "epoch": row["iteration"] / epoch,
            "learning_rate": head.learning_rate,
            **{name: row[name + head.name] for name in FIGURES if name + head.name in row},
        }
        for row in rows
        for head in heads
    ]


def write_curves(folder: Path, history: History, heads: Sequence[Head], epoch: int) -> None:
    """``train.csv`` and ``val.csv``; accuracies in percent; empty where a head has no figure."""
    for name, rows in (("train", history.train), ("val", history.val)):
        values = (
            [f"{row[column]:.6g}" if column in row else "" for column in CURVE_COLUMNS]
            for row in curve_rows(rows, heads, epoch)
        )
        write_csv(folder / f"{name}.csv", CURVE_COLUMNS, values)


def write_predictions(
    path: Path, classes: Sequence[str], labels: NDArray[np.int64], predicted: NDArray[np.int64]
) -> None:
    """``actual,predicted``, a row an image, as DVC's confusion matrix reads it.

    Of more than MAX_CONFUSED classes only the images of those with the most errors are kept, and what
    they were taken for among all others is ``(other)``.
    """
    shown = confused_classes(len(classes), labels, predicted)
    kept = set(shown.tolist())
    rows = (
        (classes[actual], classes[guess] if guess in kept else OTHER)
        for actual, guess in zip(labels.tolist(), predicted.tolist(), strict=True)
        if actual in kept
    )
    write_csv(path, PREDICTION_COLUMNS, rows)


def confused_classes(
    num_classes: int, labels: NDArray[np.int64], predicted: NDArray[np.int64]
) -> NDArray[np.int64]:
    """All classes, or the MAX_CONFUSED of them with the most wrongly classified images; ascending."""
    errors = np.bincount(labels[predicted != labels], minlength=num_classes)
    return np.sort(np.argsort(-errors, kind="stable")[:MAX_CONFUSED])


def write_class_table(
    path: Path, images: ClassifiedImages, train_labels: NDArray[np.int64], predicted: NDArray[np.int64]
) -> None:
    """``class,top1,train_images,val_images``, top-1 in percent, a row a class; empty without images."""
    num_classes = len(images.classes)
    counts = np.bincount(images.labels, minlength=num_classes)
    right = np.bincount(images.labels[predicted == images.labels], minlength=num_classes)
    train_counts = np.bincount(train_labels, minlength=num_classes)
    rows = (
        (name, f"{100.0 * right[i] / counts[i]:.4f}" if counts[i] else "", train_counts[i], counts[i])
        for i, name in enumerate(images.classes)
    )
    write_csv(path, CLASS_COLUMNS, rows)
