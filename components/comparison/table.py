"""A comparison as Markdown for a terminal, as CSV and as JSON."""

import csv
import io
from typing import Any

from components.comparison.rows import ComparedRow, Comparison
from components.core.published import BENCHMARKS, REMARKS, SOURCE
from components.report.render import table, wrap
from components.report.words import ABSENT, SETUP_TITLES, backbone_title, duration, listed, within

# Short titles, since a table of a family has many columns.
COLUMN_TITLES = {
    "voc07.mAP": "VOC07",
    "caption.CIDEr-D": "CIDEr-D",
    "caption.SPICE": "SPICE",
    "imagenet_linear.top1": "IN1k",
    "imagenet_linear.best_top1": "IN1k best LR",
    "inaturalist.top1": "iNat",
    "coco_segmentation.box.AP": "COCO box",
    "coco_segmentation.mask.AP": "COCO mask",
    "lvis_segmentation.mask.AP": "LVIS mask",
    "voc_detection.box.AP": "VOC det",
}
_FEW = 3  # parameters that a sentence names
BAD_STATES = ("failed", "stopped", "not started")
PRETRAINING = (  # key of metrics.json, title, form
    ("train_loss", "Train loss", "{:.3f}"),
    ("val_loss", "Val loss", "{:.3f}"),
    ("num_parameters", "Parameters", "{:,.0f}"),
    ("images_per_second", "Images/s", "{:,.1f}"),
)


def markdown(comparison: Comparison) -> str:
    """Return the whole comparison."""
    parts = [
        f"# {comparison.title[0].upper()}{comparison.title[1:]} compared",
        wrap(_legend(comparison)),
        results_table(comparison),
        wrap(comparability(comparison)),
        "## Pretraining",
        _pretraining_table(comparison),
        wrap("Losses of different tasks and vocabularies cannot be held against each other."),
    ]
    missing = [row for row in comparison.rows if row.message]
    if missing:
        parts += ["## Missing", "\n".join(_problem(row) for row in missing)]
    return "\n\n".join(parts) + "\n"


def results_table(comparison: Comparison) -> str:
    """Return rows, then baselines, by benchmark, with the paper's figures."""
    benchmarks, published = comparison.benchmarks(), comparison.published_keys()
    header = ["Row"]
    for benchmark in benchmarks:
        header += [COLUMN_TITLES[benchmark.key], *(["Gain"] if benchmark.compares_backbones else [])]
    header += [f"Paper {COLUMN_TITLES[key]}" for key in published]
    lines = []
    for row in comparison.rows:
        cells = [row.title]
        for benchmark in benchmarks:
            cells.append(_cell(row, benchmark.key))
            if benchmark.compares_backbones:
                gain = row.gain(benchmark.key)
                cells.append(ABSENT if gain is None else f"{gain:+.1f}")
        theirs = row.published.figures if row.published else {}
        lines.append([*cells, *(_number(theirs.get(key)) for key in published)])
    for name, backbone, figures in comparison.baseline_rows():
        cells = [f"{backbone_title(name)}, {backbone}"]
        for benchmark in benchmarks:
            no_gain = [ABSENT] if benchmark.compares_backbones else []
            cells += [_number(figures.get(benchmark.key)), *no_gain]
        lines.append([*cells, *([ABSENT] * len(published))])
    return table(header, lines)


def comparability(comparison: Comparison) -> str:
    """Say whether the figures may be held against the paper's."""
    rows = [row for row in comparison.rows if row.published]
    if not rows:
        return "The paper has no such rows."
    names = [
        within(title) for name, title in SETUP_TITLES.items() if any(name in row.differences for row in rows)
    ]
    parameters = list(dict.fromkeys(text for row in rows for text in row.parameters))
    if not names and not parameters:
        return "The rows have the set-up and the parameters of the paper's."
    if parameters:
        more = f" and {len(parameters) - _FEW} more" if len(parameters) > _FEW else ""
        names.append(f"parameters ({'; '.join(parameters[:_FEW])}{more})")
    words = listed(names)
    base = f" The paper's own base is the preset {comparison.paper_base}." if comparison.paper_base else ""
    return (
        f"**Not comparable in scale with the paper's figures**: these rows differ from the paper's in "
        f"{words}. What may be compared is which rows are better and which worse.{base}"
    )


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison for programs; figures in percent."""
    return {
        "format": "virtex-comparison",
        "version": 1,
        "family": comparison.family,
        "base": comparison.base,
        "source_of_published": SOURCE,
        "rows": [_row_json(row) for row in comparison.rows],
        "baselines": [
            {"name": name, "backbone": backbone, "figures": figures}
            for name, backbone, figures in comparison.baseline_rows()
        ],
    }


def comparison_csv(comparison: Comparison) -> str:
    """Return one line per row; empty where there is no figure."""
    keys = [benchmark.key for benchmark in comparison.benchmarks()]
    published = comparison.published_keys()
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["row", "state", *keys, *(f"gain {key}" for key in keys), *(key for key, *_ in PRETRAINING)]
        + [f"paper {key}" for key in published]
    )
    for row in comparison.rows:
        theirs = row.published.figures if row.published else {}
        writer.writerow(
            [row.name, row.state, *(row.figures.get(key) for key in keys), *(row.gain(key) for key in keys)]
            + [row.pretraining.get(key) for key, *_ in PRETRAINING]
            + [theirs.get(key) for key in published]
        )
    for name, backbone, figures in comparison.baseline_rows():
        writer.writerow([f"{name} {backbone}", "baseline", *(figures.get(key) for key in keys)])
    return buffer.getvalue()


def _row_json(row: ComparedRow) -> dict[str, Any]:
    gains = {benchmark.key: row.gain(benchmark.key) for benchmark in BENCHMARKS}
    return {
        "name": row.name,
        "title": row.title,
        "state": row.state,
        "message": row.message,
        "figures": row.figures,
        "gains": {key: gain for key, gain in gains.items() if gain is not None},
        "pretraining": {key: row.pretraining.get(key) for key, *_ in PRETRAINING},
        "published": dict(row.published.figures) if row.published else {},
        "comparable": bool(row.published) and not row.differences and not row.parameters,
        "differences": row.differences,
        "parameter_differences": row.parameters,
    }


def _legend(comparison: Comparison) -> str:
    paper = f" Paper is {SOURCE}, IN1k its ImageNet linear top-1." if comparison.published_keys() else ""
    key = "imagenet_linear.best_top1"
    rates = f" {REMARKS[key]}" if key in {benchmark.key for benchmark in comparison.benchmarks()} else ""
    return (
        f"In percent; the base is {comparison.base}. Gain is what a row has above the random backbone of "
        f"the same architecture.{paper}{rates}"
    )


def _cell(row: ComparedRow, key: str) -> str:
    if key in row.figures:
        return f"{row.figures[key]:.1f}"
    first_column = key == "voc07.mAP"
    return row.state.replace("started", "run") if first_column and row.state in BAD_STATES else ABSENT


def _pretraining_table(comparison: Comparison) -> str:
    lines = []
    for row in comparison.rows:
        figures = row.pretraining
        cells = [form.format(figures[key]) if key in figures else ABSENT for key, _, form in PRETRAINING]
        seconds = figures.get("seconds")
        lines.append([row.title, *cells, ABSENT if seconds is None else duration(seconds)])
    return table(["Row", *(title for _, title, _ in PRETRAINING), "Time"], lines)


def _problem(row: ComparedRow) -> str:
    first, *more = row.message.splitlines()
    head = wrap(f"- {row.title}, {row.state}: {first}", indent="  ")
    return "\n".join([head, *(f"  {line}" for line in more)])


def _number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.1f}"
