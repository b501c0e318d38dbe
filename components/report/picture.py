"""The report as one picture: headline figures, loss curves, VOC07 by class, all benchmarks."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from components.core.files import writing
from components.params import PRETRAINED
from components.report.data import PAIR, ReportData
from components.report.protocol import Protocol, comparable_results
from components.report.table import (
    ABSENT,
    LOSS_TITLES,
    backbone_title,
    duration,
    figure_text,
    signed,
    taught_by,
)

INCHES_WIDE = 14.0
DOTS_PER_INCH = 150
INK, SOFT, LINE, PAGE = "#1d2126", "#5e6670", "#dedbd2", "#fbfaf7"
VIRTEX, RANDOM, PAPER = "#0b6e99", "#c2762f", "#8a8f96"
OTHERS = ("#5b8c3a", "#8a4f9e", "#b3446c", "#6b705c")  # in turn
MARGINS = {"left": 0.04, "right": 0.96, "top": 0.93, "bottom": 0.11, "wspace": 0.27, "hspace": 0.42}
STYLE: dict[Any, Any] = {
    "font.size": 12,
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": INK,
}


def draw_report(path: Path, data: ReportData, protocol: Protocol) -> None:
    """Write a PNG of 14 inches at 150 dots per inch, legible at 1400 pixels; absent parts say so."""
    num_classes = len({name for aps in data.class_aps.values() for name in aps})
    body = max(7.0, 1.3 + 0.34 * num_classes)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(INCHES_WIDE, 2.9 + body), dpi=DOTS_PER_INCH, facecolor=PAGE)
        FigureCanvasAgg(figure)
        parts = figure.add_gridspec(2, 1, height_ratios=[2.9, body])
        head, rest = figure.add_subfigure(parts[0]), figure.add_subfigure(parts[1])
        _draw_head(head, data)
        legend_rows = (len(data.backbones) + 1) // 2
        margins = MARGINS | {"bottom": MARGINS["bottom"] + 0.028 * (legend_rows - 1)}
        grid = rest.add_gridspec(2, 2, width_ratios=[1.05, 1], **margins)
        _draw_losses(rest.add_subplot(grid[0, 0]), data)
        _draw_results(rest.add_subplot(grid[1, 0]), data)
        _draw_classes(rest.add_subplot(grid[:, 1]), data)
        rest.text(0.04, 0.035, _remark(data, protocol), size=12, color=SOFT, va="center")
        with writing(path) as temporary:
            figure.savefig(temporary, format="png", facecolor=PAGE)


def _draw_head(figure: SubFigure, data: ReportData) -> None:
    figure.set_facecolor(PAGE)
    setup = data.setup
    figure.text(
        0.04,
        0.83,
        f"What this run learned from {taught_by(setup.objective)}",
        size=26,
        weight="bold",
        va="center",
    )
    figure.text(
        0.04,
        0.66,
        f"{setup.objective} on {setup.backbone}, {setup.captions}, {setup.iterations:,} iterations "
        f"of {setup.batch_size:,} images",
        size=14,
        color=SOFT,
        va="center",
    )
    tiles = _tiles(data)
    for column, (value, name, note) in enumerate(tiles):
        left = 0.04 + 0.93 * column / len(tiles)
        figure.text(
            left, 0.38, value, size=28, weight="bold", color=VIRTEX if column < 2 else INK, va="center"
        )
        figure.text(left, 0.20, name, size=13, va="center")
        figure.text(left, 0.09, note, size=11.5, color=SOFT, va="center")


def _tiles(data: ReportData) -> list[tuple[str, str, str]]:
    """Return value, name and note of each headline figure."""
    voc07, caption = data.result("voc07.mAP"), data.result("caption.CIDEr-D")
    gain = "" if voc07.difference is None else f"{voc07.difference:+.1f} on random"
    seconds, rate = data.pretraining.get("seconds"), data.pretraining.get("images_per_second")
    clock = "hours, minutes and seconds" if (seconds or 0) >= 3600 else "minutes and seconds"
    images, perplexity = data.captioning.get("images"), data.pretraining.get("perplexity")
    by_image = perplexity is None and bool(data.pretraining)
    no_captions = "this task writes none" if images == 0 else ""
    return [
        (_number(voc07.figures.get(PRETRAINED)), "VOC07 mAP", gain),
        (
            _number(caption.figures.get(PRETRAINED)),
            "CIDEr-D",
            no_captions or (f"{images:,} images" if isinstance(images, int) else ""),
        ),
        (
            _number(data.pretraining.get("val_loss"), 2),
            "validation loss",
            "nats per image" if by_image else f"perplexity {_number(perplexity)}",
        ),
        (
            _number(data.pretraining.get("images_seen"), 0),
            "images seen",
            f"{_number(rate)} images/s",
        ),
        (ABSENT if seconds is None else duration(seconds), "pretraining time", clock),
    ]


def _remark(data: ReportData, protocol: Protocol) -> str:
    alike = [result.benchmark.row_title for result in comparable_results(data, protocol)]
    if not alike:
        return "Not comparable with the paper: report.md says in what this run differs."
    return f"As the paper's {data.published.name}, and comparable with it: {', '.join(alike)}."


def _number(value: float | None, decimals: int = 1) -> str:
    return ABSENT if value is None else f"{value:,.{decimals}f}"


def _draw_losses(axes: Axes, data: ReportData) -> None:
    _begin(axes, LOSS_TITLES.get(data.setup.objective, "Loss"))
    curves = (
        (data.train_loss, "training", RANDOM, 1.6, ""),
        (data.val_loss, "validation", VIRTEX, 2.4, "o"),
    )
    highest = max((curve.losses[-1] for curve, *_ in curves if curve is not None), default=0.0)
    for curve, label, colour, width, marker in curves:
        if curve is not None:
            x, y = curve.iterations, curve.losses
            axes.plot(x, y, label=label, color=colour, linewidth=width, marker=marker, markersize=5)
            axes.annotate(
                f"{y[-1]:.2f}",
                (x[-1], y[-1]),
                xytext=(7, 8 if y[-1] == highest else -8),
                textcoords="offset points",
                color=colour,
                weight="bold",
                va="center",
                annotation_clip=False,
            )
    if data.train_loss is None and data.val_loss is None:
        _say(axes, "no pretraining results")
        return
    axes.set_xlabel("iteration")
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.margins(x=0.02)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="best")


def backbone_colours(backbones: Sequence[str]) -> dict[str, str]:
    """Return a colour per backbone, the same wherever it is drawn."""
    others = itertools.cycle(OTHERS)
    own = {PAIR[0]: VIRTEX, PAIR[1]: RANDOM}
    return {name: own.get(name) or next(others) for name in backbones}


def _draw_results(axes: Axes, data: ReportData) -> None:
    """Draw a row per benchmark; this run's figure and gain stand at its right, or why there is none."""
    results = data.headlines()[::-1]
    names = [result.benchmark.row_title for result in results]
    figures = {
        backbone: {
            result.benchmark.row_title: result.figures[backbone]
            for result in results
            if backbone in result.figures
        }
        for backbone in data.backbones
    }
    _begin(axes, "Benchmarks, percent")
    axes.set_axis_off()
    axes = axes.inset_axes((0.38, 0.06, 0.42, 0.9))  # names at its left, figures at its right
    axes.set_facecolor(PAGE)
    axes.spines[["top", "right", "left"]].set_visible(False)
    known = [(result.published, row) for row, result in enumerate(results) if result.published is not None]
    axes.scatter(
        [figure for figure, _ in known],
        [row for _, row in known],
        s=110,
        marker="|",
        linewidths=3,
        color=PAPER,
        label="Paper",
    )
    _draw_dots(axes, figures, names, {name: backbone_title(name) for name in figures})
    for row, result in enumerate(results):
        ran = PRETRAINED in result.figures
        gain = "" if result.difference is None else f" ({signed(result.difference)})"
        axes.text(
            1.04,
            row,
            figure_text(result, PRETRAINED) + gain,
            va="center",
            color=INK if ran else SOFT,
            weight="bold" if ran else "normal",
            transform=axes.get_yaxis_transform(),
        )


def _draw_classes(axes: Axes, data: ReportData) -> None:
    """Draw a row per class, best at the top, with the mean of each backbone."""
    _begin(axes, "VOC07 average precision by class, percent")
    first = data.class_aps[data.backbones[0]]
    found = {name for aps in data.class_aps.values() for name in aps}
    names = sorted(found, key=lambda name: (first.get(name, 0.0), name))
    if not names:
        _say(axes, "no VOC07 results")
        return
    labels = {}
    for backbone, colour in backbone_colours(tuple(data.class_aps)).items():
        aps = data.class_aps[backbone].values()
        mean = sum(aps) / len(aps) if aps else 0.0
        labels[backbone] = f"{backbone_title(backbone)}, mean {mean:.1f}"
        if aps:
            axes.axvline(mean, color=colour, linestyle=(0, (4, 3)), linewidth=1.2, zorder=0)
    _draw_dots(axes, data.class_aps, names, labels)


def _draw_dots(
    axes: Axes, figures: Mapping[str, Mapping[str, float]], names: Sequence[str], labels: Mapping[str, str]
) -> None:
    """Draw a row per name from below, a dot per backbone, and a line between this run's and random.

    Args:
        axes: drawn into.
        figures: percent by backbone and name; absent ones are left out.
        names: of the rows.
        labels: of the backbones, for the legend.
    """
    virtex, random = (figures.get(name, {}) for name in PAIR)
    for row, name in enumerate(names):
        if name in virtex and name in random:
            axes.plot([random[name], virtex[name]], [row, row], color=LINE, linewidth=4, zorder=1)
    for backbone, colour in reversed(backbone_colours(tuple(figures)).items()):
        known = [
            (figures[backbone][name], row) for row, name in enumerate(names) if name in figures[backbone]
        ]
        if known:
            points, rows = zip(*known, strict=True)
            axes.scatter(points, rows, s=62, color=colour, zorder=3, label=labels[backbone])
    highest = max((value for of in figures.values() for value in of.values()), default=0.0)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.set_xlim(0, max(100.0, 1.05 * highest))
    axes.grid(axis="x", color=LINE, linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    handles, shown = axes.get_legend_handles_labels()
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.06), "ncols": 3}
    axes.legend(handles[::-1], shown[::-1], frameon=False, **place)


def _begin(axes: Axes, title: str) -> None:
    axes.set_facecolor(PAGE)
    axes.set_title(title, loc="left", size=15, weight="bold", pad=14)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _say(axes: Axes, text: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", color=SOFT, transform=axes.transAxes)
