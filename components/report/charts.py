"""Charts of the page: SVG text whose colours are the page's, so that they are light or dark with it."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from components.report.data import Curve
from components.report.details import RECALLS, ClassFigures, Confusion, Line, Training
from components.report.picture import (
    INK,
    LINE,
    OTHERS,
    RANDOM,
    SOFT,
    VIRTEX,
    backbone_colours,
)
from components.report.table import backbone_title

# Drawn in the colours of report.png; in SVG text each becomes the page's variable.
VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    LINE: "--line",
    VIRTEX: "--virtex",
    RANDOM: "--random",
    **{colour: f"--other-{number}" for number, colour in enumerate(OTHERS, 1)},
}
BOTH_WAYS = "#2b8fbd"  # of pixels, which cannot follow the page: plain on light and on dark
WIDTH, HEIGHT = 5.0, 2.9  # inches: 360 points, as wide as a phone
ROW_INCHES = 0.2
LEGEND_ABOVE: dict[str, Any] = {
    "frameon": False,
    "loc": "lower center",
    "bbox_to_anchor": (0.4, 1.0),
    "ncols": 3,
    "borderaxespad": 0.2,
}
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "font.family": "sans-serif",
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",  # text stays text: small, sharp, and found by a search
    "svg.hashsalt": "virtex",
}


def losses(train: Curve | None, val: Curve | None) -> str:
    """Draw training and validation loss of pretraining by iteration; empty without either."""
    if not (train or val):
        return ""
    pairs = (("training", train, 1.2, "", RANDOM), ("validation", val, 2.0, "o", VIRTEX))
    with mpl.rc_context(STYLE):
        figure, axes = _begin()
        for label, curve, width, marker, colour in pairs:
            if curve is not None:
                axes.plot(
                    curve.iterations,
                    curve.losses,
                    color=colour,
                    linewidth=width,
                    marker=marker,
                    markersize=4,
                    label=label,
                )
        axes.set_xlabel("iteration")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
        return _svg(figure)


def lines(found: Mapping[str, Line], x_label: str) -> str:
    """Draw a line per name; empty where none has two points."""
    if not any(len(x) > 1 for x, _ in found.values()):
        return ""
    with mpl.rc_context(STYLE):
        figure, axes = _begin()
        colours = backbone_colours(list(found))
        for name, (x, y) in found.items():
            marker = "o" if len(x) < 12 else ""
            label = backbone_title(name)
            axes.plot(x, y, color=colours[name], linewidth=1.6, marker=marker, markersize=4, label=label)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(x_label)
        if x_label != "recall":
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.legend(frameon=False)
        return _svg(figure)


def training(found: Training) -> str:
    """Draw a benchmark's curves."""
    return lines(found.lines, found.unit)


def candidates(rows: Sequence[Mapping[str, Any]], criterion: str) -> str:
    """Draw checkpoints by what they were chosen by, the chosen one filled; empty without rows."""
    if not rows:
        return ""
    with mpl.rc_context(STYLE):
        figure, axes = _begin()
        axes.plot([r["iteration"] for r in rows], [r["score"] for r in rows], color=LINE, zorder=1)
        for row in rows:
            face = VIRTEX if row["chosen"] == "yes" else "none"
            axes.scatter(row["iteration"], row["score"], s=52, color=face, edgecolors=VIRTEX, zorder=2)
        axes.set_xlabel("iteration")
        axes.set_ylabel(criterion)
        axes.margins(0.08, 0.2)
        return _svg(figure)


def precision_recall(precision: Mapping[str, Sequence[float]]) -> str:
    """Draw interpolated precision by recall, mean over classes, a line per backbone; empty without any."""
    found = {name: (list(RECALLS), list(values)) for name, values in precision.items()}
    return lines(found, "recall")


def class_figures(found: ClassFigures) -> str:
    """Draw a row per class, best first: a bar of the first backbone, a mark for each other.

    Empty if all are 0.
    """
    if not any(value for of in found.figures.values() for value in of.values()):
        return ""
    colours = backbone_colours(list(found.figures))
    first, *others = found.figures
    places = range(len(found.names))
    with mpl.rc_context(STYLE):
        figure, axes = _begin(height=0.75 + ROW_INCHES * len(found.names))
        bars = [found.figures[first].get(name, 0.0) for name in found.names]
        axes.barh(places, bars, height=0.62, color=colours[first], alpha=0.85, label=backbone_title(first))
        for other in others:
            known = [
                (found.figures[other][n], p)
                for p, n in zip(places, found.names, strict=True)
                if n in found.figures[other]
            ]
            x, y = zip(*known, strict=True)
            axes.scatter(
                x,
                y,
                s=70,
                marker="|",
                linewidths=3,
                color=colours[other],
                label=backbone_title(other),
                zorder=3,
            )
        axes.set_yticks(places, [_short(name) for name in found.names], color=INK)
        axes.set_ylim(len(found.names) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color=LINE, linewidth=0.8)
        axes.grid(visible=False, axis="y")
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], **LEGEND_ABOVE)
        return _svg(figure)


def frequency(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Draw top-1 by how many training images a class has: bars per backbone; empty without figures."""
    colours = backbone_colours(list(found))
    groups = [g for g in ("many", "medium", "few") if any("top1" in of.get(g, {}) for of in found.values())]
    if not groups:
        return ""
    width = 0.8 / len(found)
    with mpl.rc_context(STYLE):
        figure, axes = _begin()
        for place, (name, of) in enumerate(found.items()):
            shift = (place - (len(found) - 1) / 2) * width
            heights = [of.get(group, {}).get("top1", 0.0) for group in groups]
            centres = [index + shift for index in range(len(groups))]
            bars = axes.bar(centres, heights, width * 0.92, color=colours[name], label=backbone_title(name))
            axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=9, color=SOFT)
        axes.set_xticks(range(len(groups)), [f"{group} images" for group in groups], color=INK)
        axes.tick_params(axis="x", length=0)
        axes.margins(y=0.15)
        axes.legend(frameon=False)
        return _svg(figure)


def confusion(found: Confusion) -> str:
    """Draw the share of each actual class (row) by predicted class (column), less transparent for more."""
    shares = found.counts / found.counts.sum(axis=1, keepdims=True)
    tint = np.empty((*shares.shape, 4))
    tint[..., :3] = to_rgb(BOTH_WAYS)
    tint[..., 3] = shares
    with mpl.rc_context(STYLE):
        figure, axes = _begin(height=0.9 + max(2.2, min(5.4, 0.19 * len(found.actual))))
        axes.imshow(tint, interpolation="none", aspect="auto")
        size = 9 if len(found.actual) <= 24 else 6
        axes.set_yticks(range(len(found.actual)), [_short(n) for n in found.actual], fontsize=size, color=INK)
        axes.set_xticks(
            range(len(found.predicted)), [_short(n) for n in found.predicted], fontsize=size, rotation=90
        )
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.set_xlabel("predicted")
        axes.set_ylabel("actual")
        return _svg(figure)


def _begin(height: float = HEIGHT) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="both", length=0)
    return figure, axes


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"


def _svg(figure: Figure) -> str:
    """Return text for the inside of a page; what matplotlib says about itself is left out."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(<svg [^>]*?)width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", text, count=1)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text
