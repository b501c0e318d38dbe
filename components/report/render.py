"""The report as Markdown for a terminal of 80 columns, and as one page: both are templates over report.json.

The page is one file: nothing is fetched, no script, light and dark, desk and phone.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from components.core.foreign_text import markdown_text, not_a_block
from components.params import PRETRAINED
from components.report import charts
from components.report.details import Details
from components.report.html import render
from components.report.protocol import as_text
from components.report.results import NOISE_MARK, PAIR
from components.report.words import (
    ABSENT,
    FORMS,
    SETUP_TITLES,
    backbone_title,
    bounds_text,
    figure_text,
    signed,
)

WIDTH = 80


@dataclass(frozen=True, slots=True)
class Column:
    """Figures of a table: where they lie in a row of the results.

    Attributes:
        title: for people.
        keys: of the figure in the row.
        style: class on the page.
        is_wide: for which only the page has room.
    """

    title: str
    keys: tuple[str, ...]
    style: str = ""
    is_wide: bool = False


def tables(report: Mapping[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]], list[Column]]]:
    """Yield title, rows and columns of each group of benchmarks.

    Of a benchmark without any figure it shows only headlines and what the paper has a figure of.
    """
    for group, title in report["groups"].items():
        rows = [row for row in report["results"] if row["group"] == group]
        measured = {
            row["benchmark"] for row in rows if any(of["value"] is not None for of in row["figures"].values())
        }
        shown = [
            row
            for row in rows
            if row["benchmark"] in measured or row["headline"] or row["published"]["value"] is not None
        ]
        yield title, shown, _columns(shown, report["backbones"])


def _columns(rows: Sequence[Mapping[str, Any]], backbones: Sequence[str]) -> list[Column]:
    known = [name for name in backbones if any(name in row["figures"] for row in rows)]
    columns = [
        Column(backbone_title(name), ("figures", name), "ours" if name == PRETRAINED else "")
        for name in known
    ]
    if len(known) > 1:
        columns.append(Column("Gain", ("differences", PAIR[1])))
    if any(row["chance"]["value"] is not None for row in rows):
        columns.append(Column("Chance", ("chance",), is_wide=True))
    columns += [
        Column("Paper", ("published",), "theirs"),
        Column("Diff", ("published_difference",), "theirs"),
    ]
    if any(row["imagenet"]["value"] is not None for row in rows):
        columns.append(Column("IN-sup", ("imagenet",), "theirs"))
        columns.append(Column("vs IN-sup", ("imagenet_difference",), "theirs", is_wide=True))
    return columns


def pretraining_numbers(report: Mapping[str, Any]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return title, form and keys of the figures of pretraining that are there."""
    numbers = [
        ("Training loss", "loss", ("pretraining", "train_loss")),
        ("Validation loss", "loss", ("pretraining", "val_loss")),
        *((title, "loss", ("pretraining_losses", title)) for title in report["pretraining_losses"]),
        ("Validation perplexity", "perplexity", ("pretraining", "perplexity")),
        ("Iterations", "count", ("pretraining", "iterations")),
        ("Images seen", "count", ("pretraining", "images_seen")),
        ("Time", "duration", ("pretraining", "seconds")),
        ("Images/s", "rate", ("pretraining", "images_per_second")),
        (f"Checkpoint chosen ({report['choice'].get('criterion')})", "count", ("choice", "iteration")),
        ("Its VOC07 mAP, cross-validated on trainval", "percent", ("choice", "trainval_mAP")),
        ("Its VOC07 mAP on test", "percent", ("choice", "mAP")),
    ]
    return [one for one in numbers if isinstance(value_at(report, pointer(*one[2])), int | float)]


def markdown(report: Mapping[str, Any]) -> str:
    """Return the whole report; no line is longer than WIDTH, unless many backbones need it."""
    pretraining = [
        [title, FORMS[form](value_at(report, pointer(*keys)))]
        for title, form, keys in pretraining_numbers(report)
    ]
    setup = [
        [
            SETUP_TITLES[name],
            *map(_plain, of.values()),
            "differs" if of["this_run"] != of["published"] else "",
        ]
        for name, of in report["setup"].items()
    ]
    return render(
        "report.md",
        report=report,
        wrap=wrap,
        bullets=bullets,
        tables={title: _results_table(rows, columns) for title, rows, columns in tables(report)},
        bounds={title: _bounds_table(rows, columns) for title, rows, columns in tables(report)},
        seeds=_seeds_table(report["seeds"]),
        setup=table(["", "This run", "Paper", ""], setup),
        pretraining=table(["", "Value"], pretraining) if pretraining else "Not run.",
        classes=_class_table(report["voc07_class_ap"]),
    )


def _results_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    shown = [column for column in columns if not column.is_wide]
    cells = [
        [figure_text(value_at(row, pointer(*column.keys)), bounds=False) for column in shown] for row in rows
    ]
    titles = [row["row_title"] for row in rows]
    return table(
        ["Benchmark", *(column.title for column in shown)],
        [[title, *line] for title, line in zip(titles, cells, strict=True)],
    )


def _bounds_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    """Return the intervals of figures, and what guessing reaches; empty where there are none."""
    shown = [column for column in columns if column.keys[0] in ("figures", "differences")]
    lines = []
    for row in rows:
        cells = [bounds_text(value_at(row, pointer(*column.keys))) for column in shown]
        if set(cells) != {ABSENT}:
            lines.append([row["row_title"], figure_text(row["chance"]), *cells])
    return table(["95 % interval", "Chance", *(column.title for column in shown)], lines) if lines else ""


def _seeds_table(rows: Sequence[Mapping[str, Any]]) -> str:
    percent, points = FORMS["percent"], FORMS["points"]
    lines = []
    for row in rows:
        mean = f"{percent(row['mean'])} ± {percent(row['standard_error'])}{row['mark']}"
        noise = NOISE_MARK if row["remark"] else ""
        gain = ABSENT if row["gain"] is None else f"{points(row['gain'])}{noise}"
        bounds = ABSENT if row["low"] is None else f"{points(row['low'])}, {points(row['high'])}"
        lines.append([row["title"], str(row["number"]), mean, gain, bounds])
    return table(["Over seeds", "Seeds", "Mean ± error", "Gain", "95 % of gain"], lines) if lines else ""


def _class_table(class_aps: Mapping[str, Mapping[str, float]]) -> str:
    first = next(iter(class_aps.values()))
    known = {name for aps in class_aps.values() for name in aps}
    rows = []
    for name in sorted(known, key=lambda name: (-first.get(name, 0.0), name)):
        values = [ABSENT if name not in aps else f"{aps[name]:.1f}" for aps in class_aps.values()]
        pair = [class_aps[backbone][name] for backbone in PAIR if name in class_aps.get(backbone, {})]
        rows.append([name, *values, signed(pair[0] - pair[1]) if len(pair) == 2 else ABSENT])
    return table(["Class", *map(backbone_title, class_aps), "Gain"], rows) if rows else "Not run."


def _plain(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, int):
        return f"{value:,}"
    return textwrap.shorten(str(value).replace("_classification", " classif."), 24, placeholder=" …")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with its columns aligned: the first left, the others right."""
    rows = [[markdown_text(cell).replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        return f"| {' | '.join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])} |"

    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([line(header), f"|{rule}|", *(line(row) for row in rows)])


def bullets(texts: Sequence[str]) -> str:
    """Return a list in Markdown, wrapped."""
    return "\n".join(wrap(text, "- ") for text in texts)


def wrap(text: str, bullet: str = "") -> str:
    """Return lines of WIDTH in Markdown, the first after ``bullet`` and the others below its text."""
    lines = textwrap.wrap(markdown_text(text), WIDTH - len(bullet), break_on_hyphens=False)
    return bullet + f"\n{' ' * len(bullet)}".join(map(not_a_block, lines))


def page(report: Mapping[str, Any], details: Details) -> str:
    """Return HTML; all text is escaped, and each number is looked up in ``report``, which is report.json."""
    numbers = Numbers(report)
    return render(
        "report.html",
        report=report,
        tables=list(tables(report)),
        show=numbers.number,
        figure=numbers.figure,
        pretraining=pretraining_numbers(report),
        as_text=as_text,
        titles=SETUP_TITLES,
        charts=charts.of_page(report, details),
        pictures=details.pictures,
        detections=details.detections,
    )


def pointer(*keys: object) -> str:
    """Say where a value lies in report.json, as a JSON Pointer (RFC 6901)."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


def value_at(report: Any, address: str) -> Any:
    """Return what lies at a JSON Pointer; None if nothing does."""
    value = report
    for part in address.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list | tuple) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


class Numbers:
    """Writes numbers of the report with their addresses, or that they are absent."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        self._report = report

    def number(self, form: str, *keys: object) -> Markup:
        """Return the number that lies at ``keys``."""
        address = pointer(*keys)
        value = value_at(self._report, address)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return Markup('<span class="absent">{}</span>').format(ABSENT)
        sign = "" if form != "points" or not round(value, 1) else " gain" if value > 0 else " loss"
        return Markup('<span class="number{}" data-json="{}" data-form="{}">{}</span>').format(
            sign, address, form, FORMS[form](value)
        )

    def figure(self, *keys: object) -> Markup:
        """Return the figure that lies at ``keys``: as `figure_text`, and its remark as a tooltip."""
        figure = value_at(self._report, pointer(*keys))
        noise = figure is not None and figure["mark"] == NOISE_MARK
        if figure is None or figure["value"] is None:
            remark = "" if figure is None else figure["remark"]
            return Markup('<span class="absent" title="{}">{}</span>').format(remark, figure_text(figure))
        value, low, high = (self.number(figure["unit"], *keys, end) for end in ("value", "low", "high"))
        interval = "" if figure["low"] is None else Markup(" <small>[{}, {}]</small>").format(low, high)
        return Markup('<span{} title="{}">{}{}{}</span>').format(
            Markup(' class="noise"') if noise else "", figure["remark"], value, interval, figure["mark"]
        )
