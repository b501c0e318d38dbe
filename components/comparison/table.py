"""A comparison as Markdown for a terminal, and the words that its other forms share."""

from components.comparison.rows import BAD_STATES, ComparedRow, Comparison, Spread
from components.core.foreign_text import markdown_text, not_a_block
from components.core.published import REMARKS, SOURCE
from components.report.render import table, wrap
from components.report.results import OTHER_PROTOCOL, OTHER_PROTOCOL_MARK
from components.report.words import ABSENT, SETUP_TITLES, backbone_title, duration, listed, within

# Short titles, since a table of a family has many columns.
COLUMN_TITLES = {
    "voc07.mAP": "VOC07",
    "probes.knn.voc07_mAP_20": "kNN 20",
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
PRETRAINING = (  # key of metrics.json, title, form
    ("train_loss", "Train loss", "{:.3f}"),
    ("val_loss", "Val loss", "{:.3f}"),
    ("num_parameters", "Parameters", "{:,.0f}"),
    ("images_seen", "Images seen", "{:,.0f}"),
    ("images_per_second", "Images/s", "{:,.1f}"),
)


def markdown(comparison: Comparison) -> str:
    """Return the whole comparison."""
    parts = [
        markdown_text(f"# {comparison.title[0].upper()}{comparison.title[1:]} compared"),
        wrap(_legend(comparison)),
        results_table(comparison),
        wrap(comparability(comparison)),
        "## Pretraining",
        _pretraining_table(comparison),
        wrap("Losses of different tasks and vocabularies cannot be held against each other."),
    ]
    if comparison.has_seeds:
        parts[3:3] = ["## Seeds", _seeds_table(comparison), wrap(_seeds_legend(comparison))]
    problems = [
        _problem(row, run.seed, run.state, run.message)
        for row in comparison.rows
        for run in row.runs
        if run.message
    ]
    if problems:
        parts += ["## Missing", "\n".join(problems)]
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
            cells.append(_cell(row, benchmark.key) + comparison.mark(row, benchmark.key))
            if benchmark.compares_backbones:
                cells.append(spread_text(row.gain(benchmark.key), sign="+"))
        theirs = row.published.figures if row.published else {}
        lines.append([*cells, *(_number(theirs.get(key)) for key in published)])
    for name, backbone, figures, marks in comparison.baseline_rows():
        cells = [f"{backbone_title(name)}, {backbone}"]
        for benchmark in benchmarks:
            no_gain = [ABSENT] if benchmark.compares_backbones else []
            cells += [_number(figures.get(benchmark.key)) + marks.get(benchmark.key, ""), *no_gain]
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
        return "The rows have the set-up, the parameters and the protocols of the paper's."
    if parameters:
        more = f" and {len(parameters) - _FEW} more" if len(parameters) > _FEW else ""
        names.append(f"parameters ({'; '.join(parameters[:_FEW])}{more})")
    words = listed(names)
    base = f" The paper's own base is the preset {comparison.paper_base}." if comparison.paper_base else ""
    return (
        f"**Not comparable in scale with the paper's figures**: these rows differ from the paper's in "
        f"{words}. What may be compared is which rows are better and which worse.{base}"
    )


def spread_text(spread: Spread | None, sign: str = "") -> str:
    """Return ``20.4 ± 0.3``, mean and standard error; without the latter for one seed."""
    if spread is None:
        return ABSENT
    error = spread.standard_error
    return f"{spread.mean:{sign}.1f}" + ("" if error is None else f" ± {error:.1f}")


def interval_text(spread: Spread | None) -> str:
    """Return ``+5.0 (+3.9 to +6.1)``, mean and 95 % interval, and whether that holds zero."""
    if spread is None or spread.interval is None:
        return spread_text(spread, sign="+")
    low, high = spread.interval
    nothing = ", no difference" if low <= 0 <= high else ""
    return f"{spread.mean:+.1f} ({low:+.1f} to {high:+.1f}){nothing}"


def noise_text(comparison: Comparison) -> str:
    """Say what may be chance where rows have one seed each and somebody has measured it."""
    known = [
        f"{comparison.noise[benchmark.key]:.1f} in {COLUMN_TITLES[benchmark.key]}"
        for benchmark in comparison.benchmarks()
        if benchmark.key in comparison.noise
    ]
    if not known:
        return ""
    return f" By chance alone two runs differ by up to {listed(known)} (95 %, from `virtex ablate seeds`)."


def protocol_text(comparison: Comparison) -> str:
    """Say what the mark of another protocol means, where a figure has it."""
    if not comparison.has_marks:
        return ""
    return f" {OTHER_PROTOCOL_MARK} marks a figure {OTHER_PROTOCOL} than the first of its column."


def _seeds_table(comparison: Comparison) -> str:
    """Return one line per row and benchmark, with the figures of each seed."""
    first, *others = comparison.rows
    header = ["Row", "Benchmark", "Seeds", "Mean", "Gain (95 %)"]
    header += [f"Above {first.title} (95 %)"] if others else []
    lines = []
    for row in comparison.rows:
        for benchmark in comparison.benchmarks():
            if not (spread := row.figure(benchmark.key)):
                continue
            above = comparison.above_first(row, benchmark.key)
            lines.append(
                [
                    row.title,
                    COLUMN_TITLES[benchmark.key],
                    " ".join(f"{value:.1f}" for value in spread.values.values()),
                    spread_text(spread) + comparison.mark(row, benchmark.key),
                    interval_text(row.gain(benchmark.key)),
                    *([interval_text(above)] if others else []),
                ]
            )
    return table(header, lines)


def _seeds_legend(comparison: Comparison) -> str:
    above = " or the first row" if len(comparison.rows) > 1 else ""
    return (
        f"Seeds differ in all but the data. Mean with its standard error; differences to the random "
        f"backbone{above} seed by seed, with Student's 95 % interval of their mean."
    )


def _legend(comparison: Comparison) -> str:
    paper = f" Paper is {SOURCE}, IN1k its ImageNet linear top-1." if comparison.published_keys() else ""
    key = "imagenet_linear.best_top1"
    rates = f" {REMARKS[key]}" if key in {benchmark.key for benchmark in comparison.benchmarks()} else ""
    errors = " ± is the standard error over seeds." if comparison.has_seeds else ""
    return (
        f"In percent; the base is {comparison.base}. Gain is what a row has above the random backbone of "
        f"the same architecture.{errors}{paper}{rates}{noise_text(comparison)}{protocol_text(comparison)}"
    )


def _cell(row: ComparedRow, key: str) -> str:
    if spread := row.figure(key):
        number = len(spread.values)
        part = f" ({number} of {len(row.runs)} seeds)" if number < len(row.runs) else ""
        return spread_text(spread) + part
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


def _problem(row: ComparedRow, seed: int, state: str, message: str) -> str:
    first, *more = message.splitlines()
    which = f"{row.title}, seed {seed}" if seed else row.title
    head = wrap(f"{which}, {state}: {first}", "- ")
    return "\n".join([head, *(f"  {not_a_block(markdown_text(line))}" for line in more)])


def _number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.1f}"
