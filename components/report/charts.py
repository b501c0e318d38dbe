"""Charts: SVG text for the page, whose colours are the page's, and the same drawings as one picture."""

import io
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from components.core.files import writing
from components.params import PRETRAINED
from components.report.details import FREQUENCIES, RECALLS, Confusion, Details, Line
from components.report.results import PAIR
from components.report.words import ABSENT, LOSS_TITLES, backbone_title, duration, figure_text, signed

INK, SOFT, LINE, PAGE = "#1d2126", "#5e6670", "#dedbd2", "#fbfaf7"
VIRTEX, RANDOM, PAPER = "#0b6e99", "#c2762f", "#8a8f96"
OTHERS = ("#5b8c3a", "#8a4f9e", "#b3446c", "#6b705c")  # in turn
# In SVG text each colour becomes the page's variable.
VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    LINE: "--line",
    VIRTEX: "--virtex",
    RANDOM: "--random",
    **{colour: f"--other-{number}" for number, colour in enumerate(OTHERS, 1)},
}
PUBLISHED = "Paper"  # a series beside the backbones
BOTH_WAYS = "#2b8fbd"  # of pixels, which cannot follow the page: plain on light and on dark
WIDTH, HEIGHT, ROW_INCHES = 5.0, 2.9, 0.2  # inches: 360 points, as wide as a phone
INCHES_WIDE, DOTS_PER_INCH = 14.0, 150  # of the picture
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
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: small, sharp, and found by a search
    "svg.hashsalt": "virtex",
}
PICTURE_STYLE = STYLE | {"font.size": 12, "ytick.color": INK}


def of_page(report: Mapping[str, Any], details: Details) -> dict[str, Any]:
    """Return the charts by name, each SVG that is empty where there is nothing to draw."""
    criterion = str(report["choice"].get("criterion", "score"))
    precision = {name: (list(RECALLS), values) for name, values in details.precision.items()}
    return {
        "losses": _svg(draw_lines, details.losses, "iteration"),
        "loss_title": _loss_title(report),
        "rates": _svg(draw_lines, details.rates, "iteration"),
        "candidates": _svg(_draw_candidates, details.candidates, criterion),
        "precision": _svg(draw_lines, precision, "recall"),
        "frequency": _rows_svg(*_frequency(details.frequency)),
        "classes": [
            (of, _rows_svg({name: _short(name) for name in of.names}, of.figures))
            for of in details.classes.values()
        ],
        "trainings": [(title, _svg(draw_lines, of, x)) for title, (x, of) in details.trainings.items()],
        "confusions": [
            (of.title, _svg(_draw_confusion, of, height=0.9 + max(2.2, min(5.4, 0.19 * len(of.actual)))))
            for of in details.confusions
        ],
    }


def draw_report(path: Path, report: Mapping[str, Any], details: Details) -> None:
    """Write a PNG of 14 inches at 150 dots per inch, legible at 1400 pixels; absent parts say so."""
    aps = {name: of for name, of in report["voc07_class_ap"].items() if of}
    first: Mapping[str, float] = next(iter(aps.values()), {})
    classes = sorted({n for of in aps.values() for n in of}, key=lambda n: (-first.get(n, 0.0), n))
    body = max(7.0, 1.3 + 0.34 * len(classes))
    with mpl.rc_context(PICTURE_STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.25, h_pad=0.1)
        figure = Figure((INCHES_WIDE, 3.4 + body), DOTS_PER_INCH, facecolor=PAGE, layout=layout)
        FigureCanvasAgg(figure)
        head, rest, foot = figure.subfigures(3, 1, False, height_ratios=[2.7, body, 0.7], facecolor=PAGE).flat
        _draw_head(head, report)
        left, right = rest.subfigures(1, 2, False).flat
        upper, lower = left.subfigures(2, 1, False).flat
        losses = _panel(upper, _loss_title(report))
        if details.losses:
            draw_lines(losses, details.losses, "iteration")
        else:
            _say(losses, "no pretraining results")
        _draw_benchmarks(_panel(lower, "Benchmarks, percent"), report)
        by_class = _panel(right, "VOC07 average precision by class, percent")
        if classes:
            draw_rows(by_class, {name: name for name in classes}, aps)
        else:
            _say(by_class, "no VOC07 results")
        alike = ", ".join(row["row_title"] for row in report["results"] if row["comparable"])
        remark = (
            f"As the paper's {report['published']['model']}, and comparable with it: {alike}."
            if alike
            else "Not comparable with the paper: report.md says in what this run differs."
        )
        foot.text(0.04, 0.5, remark, size=12, color=SOFT, va="center")
        with writing(path) as temporary:
            figure.savefig(temporary, format="png", facecolor=PAGE)


def _panel(figure: SubFigure, title: str) -> Axes:
    figure.suptitle(title, x=0.04, ha="left", size=15, weight="bold")
    axes = figure.add_subplot()
    _bare(axes)
    return axes


def _say(axes: Axes, text: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", color=SOFT, transform=axes.transAxes)


def _draw_head(figure: SubFigure, report: Mapping[str, Any]) -> None:
    ours = {name: of["this_run"] for name, of in report["setup"].items()}
    line = (
        f"{ours['objective']} on {ours['backbone']}, {ours['captions']}, {ours['iterations']:,} iterations "
        f"of {ours['batch_size']:,} images"
    )
    figure.text(0.04, 0.83, report["title"], size=26, weight="bold", va="center")
    figure.text(0.04, 0.66, line, size=14, color=SOFT, va="center")
    tiles = _tiles(report)
    for column, (value, name, note) in enumerate(tiles):
        left, colour = 0.04 + 0.93 * column / len(tiles), VIRTEX if column < 2 else INK
        figure.text(left, 0.38, value, size=28, weight="bold", color=colour, va="center")
        figure.text(left, 0.20, name, size=13, va="center")
        figure.text(left, 0.09, note, size=11.5, color=SOFT, va="center")


def _tiles(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return value, name and note of each headline figure."""
    rows = {row["row_title"]: row for row in report["results"]}
    voc07, caption = (rows[title]["figures"][PRETRAINED]["value"] for title in ("VOC07 mAP", "CIDEr-D"))
    gain = _gain(rows["VOC07 mAP"])
    pretraining, images = report["pretraining"], report["captioning"].get("images")
    seconds = pretraining.get("seconds")
    clock = "hours, minutes and seconds" if (seconds or 0) >= 3600 else "minutes and seconds"
    perplexity = pretraining.get("perplexity")
    by_image = perplexity is None and bool(pretraining)
    captioned = f"{images:,} images" if isinstance(images, int) else ""
    return [
        (_number(voc07), "VOC07 mAP", "" if gain is None else f"{gain:+.1f} on random"),
        (_number(caption), "CIDEr-D", "this task writes none" if images == 0 else captioned),
        (
            _number(pretraining.get("val_loss"), 2),
            "validation loss",
            "nats per image" if by_image else f"perplexity {_number(perplexity)}",
        ),
        (
            _number(pretraining.get("images_seen"), 0),
            "images seen",
            f"{_number(pretraining.get('images_per_second'))} images/s",
        ),
        (ABSENT if seconds is None else duration(seconds), "pretraining time", clock),
    ]


def _draw_benchmarks(axes: Axes, report: Mapping[str, Any]) -> None:
    """Draw the backbones' headlines with this run's 95 % intervals.

    Captions have scores of their own scale: CIDEr-D goes beyond 100.
    """
    rows = {
        row["row_title"]: row
        for row in report["results"]
        if row["headline"] and row["benchmark"] != "caption"
    }
    draw_rows(axes, *_headlines(report, rows))
    for place, row in enumerate(rows.values()):
        ours = row["figures"].get(PRETRAINED, {})
        if ours.get("low") is not None:
            axes.hlines(place, ours["low"], ours["high"], color=INK, linewidth=1.6, zorder=2)
    axes.set_xlim(right=100)


def _headlines(
    report: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, str], dict[str, dict[str, float]]]:
    """Return labels by row, with this run's figure or why there is none, and figures by series and row."""
    labels = {}
    for title, row in rows.items():
        gain = _gain(row)
        ours = figure_text(row["figures"].get(PRETRAINED))
        labels[title] = f"{title}  {ours}" + ("" if gain is None else f" ({signed(gain)})")
    found = {
        name: {title: row["figures"].get(name, {}).get("value") for title, row in rows.items()}
        for name in report["backbones"]
    } | {PUBLISHED: {title: row["published"]["value"] for title, row in rows.items()}}
    return labels, {
        name: {title: value for title, value in of.items() if value is not None} for name, of in found.items()
    }


def _gain(row: Mapping[str, Any]) -> float | None:
    value: float | None = row["differences"].get(PAIR[1], {}).get("value")
    return value


def _number(value: float | None, decimals: int = 1) -> str:
    return ABSENT if value is None else f"{value:,.{decimals}f}"


def _loss_title(report: Mapping[str, Any]) -> str:
    return LOSS_TITLES.get(report["setup"]["objective"]["this_run"], "Loss")


def series_colours(names: Sequence[str]) -> dict[str, str]:
    """Return a colour per backbone or curve, the same wherever it is drawn."""
    others = itertools.cycle(OTHERS)
    own = {PRETRAINED: VIRTEX, "random": RANDOM, PUBLISHED: PAPER, "validation": VIRTEX, "training": RANDOM}
    return {name: own.get(name) or next(others) for name in names}


def draw_lines(axes: Axes, found: Mapping[str, Line], x_label: str) -> None:
    """Draw a line per name, with dots where they are few."""
    colours = series_colours(list(found))
    for name, (x, y) in found.items():
        marker = "o" if len(x) < 12 else ""
        label = backbone_title(name)
        axes.plot(x, y, color=colours[name], linewidth=1.6, marker=marker, markersize=4, label=label)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(x_label)
    if x_label != "recall":
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.legend()


def draw_rows(axes: Axes, labels: Mapping[str, str], figures: Mapping[str, Mapping[str, float]]) -> None:
    """Draw a row per name from the top: a bar of the first series, a mark for each other."""
    colours = series_colours(list(figures))
    for number, (series, of) in enumerate(figures.items()):
        known = [(of[name], place) for place, name in enumerate(labels) if name in of]
        values, places = [value for value, _ in known], [place for _, place in known]
        look: dict[str, Any] = {"color": colours[series], "label": backbone_title(series)}
        if number:
            axes.scatter(values, places, s=70, marker="|", linewidths=3, zorder=3, **look)
        else:
            axes.barh(places, values, height=0.62, alpha=0.85, **look)
    axes.set_yticks(range(len(labels)), list(labels.values()), color=INK)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.grid(axis="x", color=LINE, linewidth=0.8)
    axes.grid(visible=False, axis="y")
    shown = {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    titles = list(map(backbone_title, figures))
    above: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.4, 1.0), "borderaxespad": 0.2}
    axes.legend([shown[title] for title in titles], titles, ncols=3, **above)


def _draw_candidates(axes: Axes, rows: Sequence[Mapping[str, Any]], criterion: str) -> None:
    """Draw checkpoints by what they were chosen by, the chosen one filled."""
    axes.plot([r["iteration"] for r in rows], [r["score"] for r in rows], color=LINE, zorder=1)
    for row in rows:
        face = VIRTEX if row["chosen"] == "yes" else "none"
        axes.scatter(row["iteration"], row["score"], s=52, color=face, edgecolors=VIRTEX, zorder=2)
    axes.set_xlabel("iteration")
    axes.set_ylabel(criterion)
    axes.margins(0.08, 0.2)


def _draw_confusion(axes: Axes, found: Confusion) -> None:
    """Draw the share of each actual class (row) by predicted class (column), less transparent for more."""
    shares = found.counts / found.counts.sum(axis=1, keepdims=True)
    tint = np.empty((*shares.shape, 4))
    tint[..., :3] = to_rgb(BOTH_WAYS)
    tint[..., 3] = shares
    axes.imshow(tint, interpolation="none", aspect="auto")
    look: dict[str, Any] = {"fontsize": 9 if len(found.actual) <= 24 else 6, "color": INK}
    axes.set_yticks(range(len(found.actual)), map(_short, found.actual), **look)
    axes.set_xticks(range(len(found.predicted)), map(_short, found.predicted), rotation=90, **look)
    axes.grid(visible=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("actual")


def _frequency(found: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, str], dict[str, dict[str, float]]]:
    """Return labels and top-1 by how many training images a class has."""
    figures = {
        name: {group: of[group]["top1"] for group in FREQUENCIES if "top1" in of.get(group, {})}
        for name, of in found.items()
    }
    labels = {}
    for group in FREQUENCIES:
        if values := [f"{of[group]:.1f}" for of in figures.values() if group in of]:
            labels[group] = f"{group} images: {', '.join(values)}"
    return labels, figures


def _rows_svg(labels: Mapping[str, str], figures: Mapping[str, Mapping[str, float]]) -> Markup:
    """Return `draw_rows` as SVG; empty if all are 0."""
    if not any(value for of in figures.values() for value in of.values()):
        return Markup()
    return _svg(draw_rows, labels, figures, height=0.75 + ROW_INCHES * max(len(labels), 3))


def _svg(draw: Callable[..., None], found: Any, *more: Any, height: float = HEIGHT) -> Markup:
    """Return what ``draw`` draws as text for the inside of a page; empty with nothing found.

    What matplotlib says about itself is left out.
    """
    if not found or (draw is draw_lines and not any(len(x) > 1 for x, _ in found.values())):
        return Markup()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        _bare(axes)
        draw(axes, found, *more)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(<svg [^>]*?)width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", text, count=1)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return Markup(text)


def _bare(axes: Axes) -> None:
    axes.patch.set_visible(False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="both", length=0)


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"
