"""Classification results as one picture: curves by epoch, and what is mistaken for what."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from components.benchmarks.classification.results import MAX_CONFUSED
from components.core.files import writing

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
