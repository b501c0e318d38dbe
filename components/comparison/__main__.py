"""Write comparison.md, .json, .csv and .png into a folder, from rows.json: see `read_comparison`."""

import csv
import io
import sys
import textwrap
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from components.comparison.rows import ComparedRow, Comparison, Spread, read_comparison
from components.comparison.table import (
    COLUMN_TITLES,
    PRETRAINING,
    comparability,
    markdown,
    protocol_text,
    spread_text,
)
from components.core.errors import InputError
from components.core.files import write_json, write_text, writing
from components.core.foreign_text import table_cell
from components.core.published import BENCHMARKS, SOURCE
from components.report.charts import (
    DOTS_PER_INCH,
    INCHES_WIDE,
    INK,
    LINE,
    OTHERS,
    PAGE,
    PAPER,
    PICTURE_STYLE,
    RANDOM,
    SOFT,
    VIRTEX,
)
from components.report.words import backbone_title

LEFT_OUT = ("imagenet_linear.best_top1",)  # like its neighbour, and there is little room
NARROW_FROM = 6  # panels: then a gain stands below its figure, and titles are smaller
FIGURE_INCHES, FIGURE_AND_GAIN_INCHES = 0.75, 1.45  # their widths beside a bar
ROW_INCHES = 0.62
HEAD_INCHES, FOOT_INCHES = 2.0, 1.5


def main(request: Path, folder: Path) -> None:
    """Write the four files."""
    comparison = read_comparison(request)
    draw_comparison(folder / "comparison.png", comparison)
    write_text(folder / "comparison.csv", comparison_csv(comparison))
    write_json(folder / "comparison.json", comparison_json(comparison))
    write_text(folder / "comparison.md", markdown(comparison))


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison for programs; figures in percent, means over the seeds of a row."""
    return {
        "format": "virtex-comparison",
        "version": 1,
        "family": comparison.family,
        "base": comparison.base,
        "source_of_published": SOURCE,
        "rows": [_row_json(comparison, row) for row in comparison.rows],
        "baselines": [
            {"name": name, "backbone": backbone, "figures": figures} | _other_protocol(marks)
            for name, backbone, figures, marks in comparison.baseline_rows()
        ],
    }


def _row_json(comparison: Comparison, row: ComparedRow) -> dict[str, Any]:
    keys = [benchmark.key for benchmark in BENCHMARKS]
    figures = _known({key: row.figure(key) for key in keys})
    gains = _known({key: row.gain(key) for key in keys})
    above = _known({key: comparison.above_first(row, key) for key in keys})
    return {
        "name": row.name,
        "title": row.title,
        "state": row.state,
        "message": "\n".join(run.message for run in row.runs if run.message),
        "digest": row.digest,
        "figures": {key: spread.mean for key, spread in figures.items()},
        "gains": {key: spread.mean for key, spread in gains.items()},
        "runs": {str(run.seed): run.state for run in row.runs},
        "seeds": {key: {str(seed): value for seed, value in s.values.items()} for key, s in figures.items()},
        "standard_errors": {key: spread.standard_error for key, spread in figures.items()},
        "gain_intervals": {key: spread.interval for key, spread in gains.items()},
        "above_first": {key: {"mean": s.mean, "interval": s.interval} for key, s in above.items()},
        "pretraining": {key: row.pretraining.get(key) for key, *_ in PRETRAINING},
        "published": dict(row.published.figures) if row.published else {},
        "protocols": {key: row.protocols(key) for key in figures},
        **_other_protocol({key: comparison.mark(row, key) for key in figures}),
        "comparable": bool(row.published) and not row.differences and not row.parameters,
        "differences": row.differences,
        "parameter_differences": row.parameters,
    }


def _other_protocol(marks: dict[str, str]) -> dict[str, list[str]]:
    """Return the keys of figures that stand beside those of another protocol."""
    return {"other_protocol": [key for key, mark in marks.items() if mark]}


def _known(spreads: dict[str, Spread | None]) -> dict[str, Spread]:
    return {key: spread for key, spread in spreads.items() if spread}


def comparison_csv(comparison: Comparison) -> str:
    """Return one line per row; empty where there is no figure."""
    keys = [benchmark.key for benchmark in comparison.benchmarks()]
    published = comparison.published_keys()
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["row", "state", "seeds", *keys, *(f"gain {key}" for key in keys), *(key for key, *_ in PRETRAINING)]
        + [f"paper {key}" for key in published]
        + [f"standard error {key}" for key in keys]
        + ["other protocol"]
    )
    for row in comparison.rows:
        theirs = row.published.figures if row.published else {}
        figures, gains = ([of(key) for key in keys] for of in (row.figure, row.gain))
        writer.writerow(
            [table_cell(row.name), row.state, len(row.runs)]
            + [spread and spread.mean for spread in [*figures, *gains]]
            + [row.pretraining.get(key) for key, *_ in PRETRAINING]
            + [theirs.get(key) for key in published]
            + [spread and spread.standard_error for spread in figures]
            + [" ".join(key for key in keys if comparison.mark(row, key))]
        )
    for name, backbone, means, marks in comparison.baseline_rows():
        empty = [None] * (2 * len(keys) + len(PRETRAINING) + len(published))
        others = " ".join(key for key in keys if marks.get(key))
        cells = (*(means.get(key) for key in keys), *empty, others)
        writer.writerow([table_cell(f"{name} {backbone}"), "baseline", "", *cells])
    return buffer.getvalue()


def draw_comparison(path: Path, comparison: Comparison) -> None:
    """Write a PNG of 14 inches at 150 dots per inch; rows without a figure say why."""
    height = HEAD_INCHES + FOOT_INCHES + ROW_INCHES * len(comparison.rows)
    ours = [benchmark.key for benchmark in comparison.benchmarks() if benchmark.key not in LEFT_OUT]
    theirs = comparison.published_keys()
    with mpl.rc_context(PICTURE_STYLE):
        figure = Figure(figsize=(INCHES_WIDE, height), dpi=DOTS_PER_INCH, facecolor=PAGE)
        FigureCanvasAgg(figure)
        title = f"{comparison.title[0].upper()}{comparison.title[1:]} compared"
        figure.text(0.03, 1 - 0.5 / height, title, size=24, weight="bold", va="center")
        base = textwrap.shorten(f"base: {comparison.base}", 130, placeholder=" …")
        figure.text(0.03, 1 - 0.95 / height, base, size=13, color=SOFT, va="center")
        panels = figure.subplots(
            1,
            len(ours) + len(theirs),
            sharey=True,
            squeeze=False,
            gridspec_kw={
                "left": 0.21,
                "right": 0.97,
                "top": 1 - HEAD_INCHES / height,
                "bottom": FOOT_INCHES / height,
                "wspace": 0.12,
                "width_ratios": [1.5] * len(ours) + [1.0] * len(theirs),
            },
        )[0]
        is_narrow = len(panels) >= NARROW_FROM
        for axes, key in zip(panels, ours, strict=False):
            _draw_own(axes, comparison, key, is_narrow)
        for axes, key in zip(panels[len(ours) :], theirs, strict=True):
            _draw_published(axes, comparison, key, is_narrow)
        panels[0].set_yticks(range(len(comparison.rows)), [row.title for row in comparison.rows])
        panels[0].set_ylim(len(comparison.rows) - 0.4, -0.6)
        _legend(figure, panels[0], height)
        remark = comparability(comparison).replace("**", "") + protocol_text(comparison)
        remark = textwrap.fill(remark, 150)
        figure.text(0.03, 0.38 / height, remark, size=11.5, color=SOFT, va="center")
        with writing(path) as temporary:
            figure.savefig(temporary, format="png", facecolor=PAGE)


def _draw_own(axes: Axes, comparison: Comparison, key: str, is_narrow: bool) -> None:
    """Draw bars of means from 0, a dot for each of several seeds, a stroke for each baseline of the row."""
    _begin(axes, key, "this run", INK, is_narrow)
    separator = "\n " if is_narrow else " "
    colours = _colours(comparison)
    values = []
    for place, row in enumerate(comparison.rows):
        baselines = {name: of for name in row.backbones() if (of := row.figure(key, name))}
        ends = [of.mean for of in baselines.values()]
        if figure := row.figure(key):
            axes.barh(place, figure.mean, height=0.5, color=VIRTEX, label="pretrained")
            ends += figure.values.values()
            text, gain = spread_text(figure) + comparison.mark(row, key), row.gain(key)
            text = text if gain is None else f"{text}{separator}({spread_text(gain, sign='+')})"
            axes.text(max(ends), place, f" {text}", va="center", weight="bold", color=VIRTEX)
            if len(figure.values) > 1:
                axes.scatter(
                    [*figure.values.values()], [place] * len(figure.values), s=14, color=INK, zorder=3
                )
        else:
            axes.text(0, place, f" {_why(row.state)}", va="center", color=SOFT)
        for name, of in baselines.items():
            (stroke,) = axes.plot([of.mean] * 2, [place - 0.36, place + 0.36], color=colours[name])
            stroke.set(linewidth=3, label=backbone_title(name), solid_capstyle="butt")
        values += ends
    label_inches = FIGURE_INCHES if is_narrow else FIGURE_AND_GAIN_INCHES
    label_inches *= 1.7 if comparison.has_seeds else 1.0  # for the standard errors
    share = min(label_inches / (axes.get_position().width * INCHES_WIDE), 0.7)
    axes.set_xlim(0, max(values, default=1.0) / (1 - share) or 1.0)
    axes.xaxis.set_visible(False)


def _draw_published(axes: Axes, comparison: Comparison, key: str, is_narrow: bool) -> None:
    """Draw dots on an axis of the figures' own range: they lie close together."""
    _begin(axes, key, "paper", PAPER, is_narrow)
    known = [
        (place, row.published.figures[key]) for place, row in enumerate(comparison.rows) if row.published
    ]
    lowest, highest = min(value for _, value in known), max(value for _, value in known)
    margin = 0.35 * (highest - lowest) or 1.0
    for place, value in known:
        axes.plot([lowest - margin, value], [place, place], color=LINE, linewidth=2, zorder=1)
        axes.scatter([value], [place], s=70, color=PAPER, zorder=2)
        axes.text(value, place, f"   {value:.1f}", va="center", color=INK)
    axes.set_xlim(lowest - margin, highest + (3.5 if is_narrow else 2.2) * margin)
    axes.xaxis.set_visible(False)


def _begin(axes: Axes, key: str, whose: str, colour: str, is_narrow: bool) -> None:
    (metric,) = (benchmark.metric_title for benchmark in BENCHMARKS if benchmark.key == key)
    title = metric if key.startswith(("caption.", "probes.")) else f"{COLUMN_TITLES[key]} {metric}"
    title = title.replace("IN1k", "ImageNet")  # here is room for it
    axes.set_facecolor(PAGE)
    axes.set_title(f"{title}\n{whose}", loc="left", size=11 if is_narrow else 13, color=colour, pad=8)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _why(state: str) -> str:
    return "no figure" if state in ("ran", "unchanged") else state


def _colours(comparison: Comparison) -> dict[str, str]:
    names = dict.fromkeys(name for row in comparison.rows for name in row.backbones() if name != "random")
    return {"random": RANDOM, **{name: OTHERS[i % len(OTHERS)] for i, name in enumerate(names)}}


def _legend(figure: Figure, axes: Axes, height: float) -> None:
    handles, labels = axes.get_legend_handles_labels()
    known = dict(zip(labels, handles, strict=True))
    if known:
        names = sorted(known, key=lambda label: label != "pretrained")
        figure.legend(
            [known[name] for name in names],
            names,
            loc="center left",
            bbox_to_anchor=(0.205, 1.0 / height),
            ncols=6,
            frameon=False,
        )


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except InputError as error:
        sys.exit(str(error))
