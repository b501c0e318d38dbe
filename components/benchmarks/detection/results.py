"""The files in which detection results are kept: tables that DVC plots, detections drawn on images."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pycocotools import mask as run_lengths

from components.benchmarks.detection.data import DetectionImage, DetectionSplit
from components.benchmarks.detection.detections import Detections
from components.benchmarks.detection.samples import read_pixels
from components.core.files import writing

COLUMNS = 4
PICTURE_INCHES = 3.2
SHOWN_SCORE = 0.5  # weaker detections are not drawn, unless nothing else was found
SHOWN_OBJECTS = 8
MASK_OPACITY = 0.45


def write_losses(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """``iteration,loss,...``, a row a logged iteration."""
    names = list(rows[0]) if rows else ["iteration", "loss"]
    _write(path, names, [[f"{row[name]:.6g}" for name in names] for row in rows])


def write_class_aps(path: Path, scores: Mapping[str, Any]) -> None:
    """``class`` and a column of AP in percent for boxes and, where there are, masks; empty where unknown."""
    kinds = list(scores)
    names = list(scores[kinds[0]]["classes"])
    cells = [[_cell(scores[kind]["classes"][name]) for kind in kinds] for name in names]
    _write(path, ["class", *kinds], [[name, *row] for name, row in zip(names, cells, strict=True)])


def write_empty_tables(losses: Path, class_aps: Path, with_masks: bool) -> None:
    """The headers of both tables alone."""
    _write(losses, ["iteration", "loss"], ())
    _write(class_aps, ["class", "box", *(["mask"] if with_masks else [])], ())


def draw_detections(
    path: Path,
    split: DetectionSplit,
    images: Sequence[DetectionImage],
    found: Sequence[Detections],
    title: str,
) -> None:
    """A PNG of images with what was found in them: box, mask, class and score."""
    rows = max(1, -(-len(images) // COLUMNS))
    figure = Figure(
        figsize=(COLUMNS * PICTURE_INCHES, rows * PICTURE_INCHES + 0.5), layout="constrained", dpi=100
    )
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for position in range(rows * COLUMNS):
        axes = figure.add_subplot(rows, COLUMNS, position + 1)
        axes.set_axis_off()
        if position < len(images):
            _draw(axes, images[position], found[position], split.classes)
    with writing(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw(axes: Axes, image: DetectionImage, found: Detections, classes: Sequence[str]) -> None:
    axes.imshow(read_pixels(image))
    order = np.argsort(-found.scores)
    strong = [index for index in order if found.scores[index] >= SHOWN_SCORE]
    for index in (strong or list(order[:1]))[:SHOWN_OBJECTS]:
        color = f"C{int(found.labels[index]) % 10}"
        left, top, right, bottom = found.boxes[index]
        axes.add_patch(
            Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color, linewidth=1.5)
        )
        if found.masks is not None:
            mask = run_lengths.decode(found.masks[index])
            axes.contourf(mask, levels=[0.5, 1.5], colors=[color], alpha=MASK_OPACITY)
        axes.text(
            left,
            top,
            f"{classes[int(found.labels[index])]} {found.scores[index]:.2f}",
            fontsize=7,
            color="white",
            verticalalignment="bottom",
            bbox={"facecolor": color, "edgecolor": "none", "pad": 1.0},
            clip_on=True,
        )


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with writing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
