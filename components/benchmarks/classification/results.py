"""Classification results: figures, tables that DVC plots, and a picture of curves and confusions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from components.benchmarks.shared.intervals import mean_statistic
from components.benchmarks.shared.per_image import PerImage
from components.core.files import write_csv, writing
from components.sources.readers.types import ClassifiedImages
from components.training.checkpoints import CheckpointFolder
from components.training.state import History, Row, TrainingState

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
    """Return ``top1`` and ``top5`` in percent from labels ``(num_images,)``, classes ``(num_images, k)``."""
    return {name: 100.0 * float(right.mean()) for name, right in hits(labels, ranked).items()}


def hits(labels: NDArray[np.int64], ranked: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Return which images ``(num_images,)`` are right by ``top1`` and ``top5``; arguments as `accuracy`'s."""
    right = ranked == labels[:, None]
    return {"top1": right[:, 0], "top5": right.any(axis=1)}


def shown_rate(rate: float) -> str:
    """Return a learning rate as results name it."""
    return f"{rate:g}"


def figures_by_rate(
    heads: Sequence[Head], labels: NDArray[np.int64], ranked: NDArray[np.int64], diverged: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Return accuracies in percent by learning rate, from classes ``(num_heads, num_images, k)``.

    Learning rates that are in ``diverged`` have none.
    """
    return {
        shown_rate(head.learning_rate): accuracy(labels, of_head)
        for head, of_head in zip(heads, ranked, strict=True)
        if shown_rate(head.learning_rate) not in diverged
    }


def diverged_rates(
    heads: Sequence[Head], has_diverged: Sequence[bool], train: Sequence[Row]
) -> dict[str, str]:
    """Return learning rates whose heads have diverged, each with the reason why it has no figures.

    Args:
        has_diverged: of each head.
        train: rows of training; a head that has diverged is missing in those that follow.
    """
    reasons = {}
    for head, is_it in zip(heads, has_diverged, strict=True):
        if is_it:
            without = (row["iteration"] for row in train if f"loss{head.name}" not in row)
            when = f"by iteration {next(without, train[-1]['iteration'])} of {train[-1]['iteration']}"
            reasons[shown_rate(head.learning_rate)] = f"its loss or gradient was beyond all bounds {when}"
    return reasons


def curve_rows(rows: Sequence[Row], heads: Sequence[Head], epoch: int) -> list[dict[str, float]]:
    """Return the rows of a history as ``epoch, learning_rate, loss, top1, top5``, one per head and moment.

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
    """Write ``train.csv`` and ``val.csv``; accuracies in percent; empty where a head has no figure."""
    for name, rows in (("train", history.train), ("val", history.val)):
        values = (
            [f"{row[column]:.6g}" if column in row else "" for column in CURVE_COLUMNS]
            for row in curve_rows(rows, heads, epoch)
        )
        write_csv(folder / f"{name}.csv", CURVE_COLUMNS, values)


def write_predictions(
    path: Path, classes: Sequence[str], labels: NDArray[np.int64], predicted: NDArray[np.int64]
) -> None:
    """Write ``actual,predicted``, a row per image, as DVC's confusion matrix reads it.

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
    """Return all classes, or the MAX_CONFUSED of them with the most wrongly classified images; ascending."""
    errors = np.bincount(labels[predicted != labels], minlength=num_classes)
    return np.sort(np.argsort(-errors, kind="stable")[:MAX_CONFUSED])


def write_class_table(
    path: Path, images: ClassifiedImages, train_labels: NDArray[np.int64], predicted: NDArray[np.int64]
) -> None:
    """Write ``class,top1,train_images,val_images``, top-1 in percent; empty without images."""
    num_classes = len(images.classes)
    counts = np.bincount(images.labels, minlength=num_classes)
    right = np.bincount(images.labels[predicted == images.labels], minlength=num_classes)
    train_counts = np.bincount(train_labels, minlength=num_classes)
    rows = (
        (name, f"{100.0 * right[i] / counts[i]:.4f}" if counts[i] else "", train_counts[i], counts[i])
        for i, name in enumerate(images.classes)
    )
    write_csv(path, CLASS_COLUMNS, rows)


TABLES = {
    "train.csv": CURVE_COLUMNS,
    "val.csv": CURVE_COLUMNS,
    "classes.csv": CLASS_COLUMNS,
    "predictions.csv": PREDICTION_COLUMNS,
}
PICTURE = "results.png"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a protocol gave.

    Attributes:
        title: for people.
        accuracies: in percent, as metrics.json has them.
        state: after the last iteration.
        checkpoints: to be removed once all files are written.
        heads: one or several, the one that is reported first.
        epochs: of the whole training.
        train_labels: of the training images.
        val: the validation images.
        predicted: their likeliest classes by the first head ``(num_images,)``.
        ranked: their likeliest classes ``(num_images, k)`` by each head that has figures, by what the
            figures' names begin with.
        groups: top-1 in percent of groups of classes, by name.
    """

    title: str
    accuracies: dict[str, Any]
    state: TrainingState
    checkpoints: CheckpointFolder
    heads: Sequence[Head]
    epochs: int
    train_labels: NDArray[np.int64]
    val: ClassifiedImages
    predicted: NDArray[np.int64]
    ranked: Mapping[str, NDArray[np.int64]]
    groups: dict[str, float] | None = None

    def by_image(self) -> PerImage:
        """Return which validation images each figure counts as right."""
        right = {
            prefix + name: own
            for prefix, ranked in self.ranked.items()
            for name, own in hits(self.val.labels, ranked).items()
        }
        figures = {name: float(self.accuracies[name]) for name in right}
        images = ["/".join(path.parts[-2:]) for path in self.val.image_paths]
        statistic = mean_statistic({name: 100.0 * own for name, own in right.items()})
        results = {"labels": self.val.labels, "predicted": self.predicted, **right}
        return PerImage.measured(images, figures, statistic, results)

    def chance(self) -> dict[str, float]:
        """Return what guessing reaches, in percent by figure."""
        num_classes = len(self.val.classes)
        shares = {"top1": 100.0 / num_classes, "top5": 100.0 * min(5, num_classes) / num_classes}
        return {prefix + name: share for prefix in self.ranked for name, share in shares.items()}

    def figures(self) -> dict[str, Any]:
        """Return what goes into metrics.json; losses are those of the first head.

        They are absent where it has diverged and others have not.
        """
        state, loss = self.state, "loss" + self.heads[0].name
        last = {"train_loss": state.history.train[-1], "val_loss": state.history.val[-1]}
        return {
            **self.accuracies,
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


def write_outcome(folder: Path, outcome: Outcome) -> list[Path]:
    """Write TABLES and PICTURE into ``folder``, each atomically; return their paths."""
    val, history = outcome.val, outcome.state.history
    epoch = outcome.state.iteration // outcome.epochs  # iterations of one
    write_curves(folder, history, outcome.heads, epoch)
    write_class_table(folder / "classes.csv", val, outcome.train_labels, outcome.predicted)
    write_predictions(folder / "predictions.csv", val.classes, val.labels, outcome.predicted)
    draw_results(
        folder / PICTURE,
        outcome.title,
        curve_rows(history.train, outcome.heads, epoch),
        curve_rows(history.val, outcome.heads, epoch),
        val.classes,
        val.labels,
        outcome.predicted,
        outcome.groups,
    )
    return [folder / name for name in (*TABLES, PICTURE)]


PANEL_INCHES = 4.2
MAX_TICKS = 24  # classes whose names still fit beside a matrix

Rows = Sequence[dict[str, float]]


def draw_results(
    path: Path,
    title: str,
    train: Rows,
    val: Rows,
    classes: Sequence[str],
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    groups: dict[str, float] | None = None,
) -> None:
    """Write a PNG: loss, top-1, top-1 by group of classes if given, confusion matrix of few classes.

    Args:
        train: from `curve_rows`, of training.
        val: from `curve_rows`, of validation.
        labels: of the validation images ``(num_images,)``.
        predicted: their likeliest classes ``(num_images,)``.
        groups: top-1 in percent by name.
    """
    confused = len(classes) <= MAX_CONFUSED
    widths = [1.0, 1.0] + [0.6] * bool(groups) + [1.2] * confused
    figure = Figure(figsize=(PANEL_INCHES * sum(widths), PANEL_INCHES), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(1, len(widths), width_ratios=widths))
    figure.suptitle(title)
    for axes, name, label in ((panels[0], "loss", "loss"), (panels[1], "top1", "top-1 (%)")):
        _draw_curves(axes, train, val, name, label)
    if groups:
        _draw_groups(panels[2], groups)
    if confused:
        _draw_confusion(panels[-1], classes, labels, predicted)
    with writing(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw_curves(axes: Axes, train: Rows, val: Rows, name: str, label: str) -> None:
    rates = sorted({row["learning_rate"] for row in val})
    for index, rate in enumerate(rates):
        colour = f"C{index % 10}"
        for rows, style in ((train, ":"), (val, "-")):
            points = [row for row in rows if row["learning_rate"] == rate and name in row]
            epochs, values = ([row[column] for row in points] for column in ("epoch", name))
            axes.plot(epochs, values, style, color=colour, linewidth=1)
        axes.plot([], [], color=colour, label=f"{rate:g}")
    axes.set(xlabel="epoch (dotted: training)", ylabel=label)
    axes.legend(title="learning rate", frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if name == "loss" and len(rates) > 1:
        axes.set_yscale("log")  # a learning rate that is too high must not flatten the others


def _draw_groups(axes: Axes, groups: dict[str, float]) -> None:
    bars = axes.bar(list(groups), list(groups.values()))
    axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
    axes.set(ylabel="top-1 (%)", xlabel="training images of the class")
    axes.margins(y=0.1)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_confusion(
    axes: Axes, classes: Sequence[str], labels: NDArray[np.int64], predicted: NDArray[np.int64]
) -> None:
    counts = np.zeros((len(classes), len(classes)))
    np.add.at(counts, (labels, predicted), 1)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.figure.colorbar(image, ax=axes, label="% of the class's images", shrink=0.8)
    ticks = range(len(classes)) if len(classes) <= MAX_TICKS else []
    names = [classes[tick] for tick in ticks]
    axes.set_xticks(ticks, names, rotation=90, fontsize=7)
    axes.set_yticks(ticks, names, fontsize=7)
    axes.set(xlabel="predicted", ylabel="actual")
