"""The report as Markdown for a terminal of 80 columns, and the words that its other forms share."""

import textwrap
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from components.core.datasets import DATASETS
from components.core.published import GROUPS, IMAGENET_REMARK, REMARKS, SOURCE
from components.dataset_titles import DRAWN, dataset_title
from components.params import PRETRAINED
from components.report.data import PAIR, ReportData, Result
from components.report.html import render
from components.report.protocol import (
    Protocol,
    comparable_results,
    pretraining_differences,
    result_differences,
)

WIDTH = 80
_FEW = 3  # parameters that a sentence names
MARK = "*"  # of a published figure that this run's may be held against
ABSENT = "–"
BACKBONE_TITLES = {PRETRAINED: "VirTex", "random": "Random", "imagenet": "ImageNet"}
LOSS_TITLES = {
    "bicaptioning": "Loss of both directions, nats per token",
    "captioning": "Loss, nats per token",
    "masked_lm": "Loss, nats per hidden token",
    "token_classification": "Loss, nats per image",
    "multilabel_classification": "Loss, nats per image",
}
SETUP_TITLES = {
    "captions": "Captioned datasets",
    "captioned_images": "Training images",
    "captions_per_image": "Captions per image",
    "backbone": "Backbone",
    "objective": "Pretraining task",
    "hidden_size": "Width of the textual head",
    "num_layers": "Layers of the textual head",
    "iterations": "Iterations",
    "batch_size": "Batch size",
    "voc07_test_images": "VOC07 test images",
}


def markdown(report: Mapping[str, Any], data: ReportData, protocol: Protocol) -> str:
    """Return the whole report; no line is longer than WIDTH, unless many backbones need it.

    What is said comes from ``report``, which is report.json.
    """
    alike = {result.benchmark.key for result in comparable_results(data, protocol)}
    return render(
        "report.md",
        report=report,
        wrap=wrap,
        bullets=bullets,
        data_line=data_line(data),
        legend=legend(data),
        comparability=comparability(data, protocol),
        protocol_line=protocol_line(protocol),
        results={group: results_table(data.of_group(group), data.backbones, alike) for group in GROUPS},
        setup=_setup_table(data),
        pretraining=_pretraining_table(data.pretraining, data.choice),
        classes=_class_table(data),
        objective=data.setup.objective,
        missing=data.missing,
    )


def taught_by(objective: str) -> str:
    """Say what people wrote or marked that the backbone learns from."""
    return "object labels" if objective == "multilabel_classification" else "captions"


def loss_parts(pretraining: dict[str, Any]) -> dict[str, float]:
    """Return validation losses by title from pretraining's metrics.json, where the loss is a sum."""
    parts = pretraining.get("val")
    if not isinstance(parts, dict) or len(parts) < 2:
        return {}
    return {f"Validation, {name.replace('_', ' ')}": value for name, value in parts.items()}


def headline(data: ReportData) -> str:
    """Return one sentence that says whether pretraining helped."""
    voc07 = data.result("voc07.mAP")
    caption = data.result("caption.CIDEr-D").figures.get(PAIR[0])
    captions = "" if caption is None else f" Its captions score CIDEr-D {caption:.1f}."
    if voc07.difference is None:
        return f"Whether pretraining helped is not known: VOC07 is not complete.{captions}"
    ours, random = (voc07.figures[name] for name in PAIR)
    verdict = "beats" if voc07.difference > 0 else "does not beat"
    return (
        f"The backbone pretrained on {taught_by(data.setup.objective)} {verdict} the random one on VOC07: "
        f"{ours:.1f} against {random:.1f} mAP ({voc07.difference:+.1f}).{captions}"
    )


def dataset_titles(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Say what the datasets of the run are, by their names."""
    names = [*manifest.get("captions", {}), *(name for name in DATASETS if manifest.get(name))]
    return {name: dataset_title(name, manifest) for name in names}


def data_line(data: ReportData) -> str:
    """Say that benchmarks go by the names of data that these are not; empty where they are those."""
    if data.manifest.get("source") == DRAWN:
        layouts = listed([DATASETS[name].title for name in dataset_titles(data.manifest) if name in DATASETS])
        return f"All data are the drawn world: shapes drawn by this project, in the layouts of {layouts}."
    titles = dataset_titles(data.manifest)
    others = [title for name, title in titles.items() if name in DATASETS and title.endswith(" layout)")]
    return f"Not the published data, but others in their layout: {listed(others)}." if others else ""


def comparability(data: ReportData, protocol: Protocol) -> str:
    """Say which figures may be held against the paper's, and why others may not."""
    differences = pretraining_differences(data, protocol)
    if differences:
        setup = [within(SETUP_TITLES[name]) for name in data.differences()]
        parameters = _named(differences)
        words = [*setup, *([f"parameters of pretraining ({parameters})"] if parameters else [])]
        return (
            "**Not comparable with the paper's figures.** They are shown for orientation; this run "
            f"differs in {listed(words)} (see Set-up)."
        )
    alike = comparable_results(data, protocol)
    sentences = [f"This run was pretrained as the paper's {data.published.name}."]
    if alike:
        titles = listed([result.benchmark.row_title for result in alike])
        sentences.append(f"Measured as the paper does, and comparable with it: {titles}.")
    others: dict[str, list[str]] = {}
    for result in data.results:
        if result.published_difference is not None and result not in alike:
            reason = "; ".join(result_differences(result, data, protocol))
            others.setdefault(reason, []).append(result.benchmark.row_title)
    sentences += [f"**Not comparable**: {listed(titles)} ({reason})." for reason, titles in others.items()]
    if not alike and not others:
        sentences.append("No figure that the paper has too is there.")
    return " ".join(sentences)


def _named(differences: Sequence[str]) -> str:
    """Name the first few parameters; fields of the set-up have no section and are said before."""
    parameters = [text for text in differences if "." in text.partition(":")[0] or ":" not in text]
    more = f"; and {len(parameters) - _FEW} more" if len(parameters) > _FEW else ""
    return "; ".join(parameters[:_FEW]) + more


def results_table(
    results: Sequence[Result], backbones: Sequence[str], comparable: Collection[str] = ()
) -> str:
    """Return metrics by backbone, with the gain, the published figures and the difference from the paper's.

    Published figures of the keys in ``comparable`` are marked.
    """
    shown, imagenet = columns_of(results, backbones), has_imagenet(results)
    several = len(shown) > 1
    rows = [
        [
            result.benchmark.row_title,
            *(figure_text(result, backbone) for backbone in shown),
            *([signed(result.difference)] if several else []),
            number(result.published) + MARK * (result.benchmark.key in comparable),
            signed(result.published_difference),
            *([number(result.imagenet)] if imagenet else []),
        ]
        for result in results
    ]
    titles = [*map(backbone_title, shown), *(["Gain"] if several else []), "Paper", "Diff"]
    return table(["Benchmark", *titles, *(["IN-sup"] if imagenet else [])], rows)


def columns_of(results: Sequence[Result], backbones: Sequence[str]) -> list[str]:
    """Return the backbones that any of the results is about."""
    return [name for name in backbones if any(name in {**r.figures, **r.problems} for r in results)]


def has_imagenet(results: Sequence[Result]) -> bool:
    """Tell whether there is a published ImageNet-supervised figure beside any of the results."""
    return any(result.imagenet is not None for result in results)


def number(value: float | None) -> str:
    """Return one decimal, or that there is none."""
    return ABSENT if value is None else f"{value:.1f}"


def signed(value: float | None) -> str:
    """Return one decimal with its sign, or that there is none."""
    if value is None:
        return ABSENT
    return f"{value:+.1f}" if round(value, 1) else "0.0"


def backbone_title(name: str) -> str:
    """Return a backbone's name, for people."""
    return BACKBONE_TITLES.get(name, name)


def headline_figures(data: ReportData) -> dict[str, float]:
    """Return the few figures for metrics.json; without those that are absent."""
    voc07, caption = data.result("voc07.mAP"), data.result("caption.CIDEr-D")
    figures = {
        **{f"{name}_mAP": voc07.figures.get(name) for name in data.backbones},
        "difference": voc07.difference,
        "CIDEr-D": caption.figures.get(PAIR[0]),
    }
    for result in data.headlines():
        if result not in (voc07, caption):
            figures[result.benchmark.key] = result.figures.get(PAIR[0])
            figures[f"{result.benchmark.key}_gain"] = result.difference
    return {name: value for name, value in figures.items() if value is not None}


def table(header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """Return a Markdown table with its columns aligned: the first ``text_columns`` left, the others right."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if column < text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = (
        "-" * (width + 2) if column < text_columns else "-" * (width + 1) + ":"
        for column, width in enumerate(widths)
    )
    return "\n".join([line(header), f"|{'|'.join(rule)}|", *(line(row) for row in rows)])


def duration(seconds: float) -> str:
    """Return ``1:02:03`` or ``2:03`` in hours, minutes and seconds."""
    text = str(timedelta(seconds=round(seconds)))
    return text.removeprefix("0:").removeprefix("0") if text.startswith("0:") else text


def figure_text(result: Result, backbone: str) -> str:
    """Return a backbone's figure, or in a word why there is none."""
    if backbone in result.figures:
        return f"{result.figures[backbone]:.1f}"
    problem = result.problems.get(backbone)
    return ABSENT if problem is None else "not run" if problem.startswith("not run") else "failed"


def legend(data: ReportData, difference: str = "Diff") -> str:
    """Say what the columns of the tables are; ``difference`` is the name of that from the paper."""
    remarks = [REMARKS[result.benchmark.key] for result in data.results if result.benchmark.key in REMARKS]
    return " ".join(
        [
            "In percent. VirTex is the backbone of this run, Random the same network untrained, Gain "
            f"their difference.{_others(data.backbones)} "
            f"Paper is the published {data.published.name} ({SOURCE}), {difference} what VirTex has above "
            f"it; where {ABSENT} stands under Paper, its figure is not on record here. {MARK} marks those "
            "that this run may be held against: pretrained and measured as the paper does.",
            IMAGENET_REMARK,
            *remarks,
        ]
    )


def problem_lines(data: ReportData) -> list[str]:
    """Say what has no figure and why, a line per benchmark and reason."""
    stages: dict[str, list[Result]] = {}
    for result in data.results:
        stages.setdefault(result.benchmark.name, []).append(result)
    lines = []
    for results in stages.values():
        reasons: dict[str, dict[str, list[str]]] = {}  # backbones by metric, by reason
        for result in results:
            for backbone, problem in result.problems.items():
                metrics = reasons.setdefault(problem, {})
                metrics.setdefault(result.benchmark.metric_title, []).append(backbone_title(backbone))
        for reason, metrics in reasons.items():
            what = data.title(results[0].benchmark)
            if len(metrics) < len(results):
                what += f" ({', '.join(metrics)})"
            backbones = list(dict.fromkeys(name for names in metrics.values() for name in names))
            whose = f" of {listed(backbones)}" if results[0].benchmark.compares_backbones else ""
            lines.append(f"{what}{whose}: {reason}")
    return lines


def protocol_line(protocol: Protocol) -> str:
    """Say which parameters are not the paper's, by section."""
    if protocol.preset is None:
        return "There is no preset of the published model here to hold the parameters against."
    if not protocol.differences:
        return f"All parameters are those of the paper's preset, {protocol.preset}."
    sections: dict[str, list[str]] = {}
    for difference in protocol.differences:
        sections.setdefault(difference.section, []).append(difference.key)
    named = "; ".join(f"{section}: {', '.join(keys)}" for section, keys in sections.items())
    return f"Parameters that are not those of the paper's preset, {protocol.preset}: {named}."


def _others(backbones: Sequence[str]) -> str:
    others = [backbone_title(name) for name in backbones if name not in PAIR]
    return f" Where {listed(others)} came from: see baseline.sources in params.yaml." if others else ""


def _setup_table(data: ReportData) -> str:
    rows = [
        [SETUP_TITLES[name], _plain(ours), _plain(theirs), "differs" if ours != theirs else ""]
        for name, ours, theirs in data.compared()
    ]
    return table(["", "This run", "Paper", ""], rows)


def _pretraining_table(metrics: dict[str, Any], choice: dict[str, Any]) -> str:
    rows = [
        [title, form(metrics[key])]
        for key, title, form in (
            ("train_loss", "Training loss", "{:.3f}".format),
            ("val_loss", "Validation loss", "{:.3f}".format),
            ("perplexity", "Validation perplexity", "{:.2f}".format),
            ("iterations", "Iterations", "{:,.0f}".format),
            ("images_seen", "Images seen", "{:,.0f}".format),
            ("seconds", "Time", duration),
            ("images_per_second", "Images/s", "{:,.1f}".format),
        )
        if isinstance(metrics.get(key), int | float)
    ]
    rows[2:2] = [[title, f"{value:.3f}"] for title, value in loss_parts(metrics).items()]
    if isinstance(choice.get("iteration"), int):
        rows.append([f"Checkpoint chosen ({choice.get('criterion')})", f"{choice['iteration']:,}"])
    return table(["", "Value"], rows) if rows else "Not run."


def _class_table(data: ReportData) -> str:
    class_aps = data.class_aps
    names = sorted(
        {name for aps in class_aps.values() for name in aps},
        key=lambda name: (-class_aps[data.backbones[0]].get(name, 0.0), name),
    )
    if not names:
        return "Not run."
    rows = []
    for name in names:
        values = [aps.get(name) for aps in class_aps.values()]
        pair = [aps for backbone in PAIR if (aps := class_aps.get(backbone, {}).get(name)) is not None]
        gain = signed(pair[0] - pair[1] if len(pair) == 2 else None)
        rows.append([name, *map(number, values), gain])
    return table(["Class", *map(backbone_title, class_aps), "Gain"], rows)


def _plain(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, int):
        return f"{value:,}"
    return textwrap.shorten(str(value).replace("_classification", " classif."), 24, placeholder=" …")


def within(title: str) -> str:
    """Return a title for inside a sentence; names in capitals stay."""
    return title if title[:2].isupper() else title[0].lower() + title[1:]


def listed(names: Sequence[str]) -> str:
    """Join names as ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def bullets(texts: Sequence[str]) -> str:
    """Return a list in Markdown, wrapped."""
    return "\n".join(wrap(f"- {text}", indent="  ") for text in texts)


def wrap(text: str, indent: str = "") -> str:
    """Return lines of WIDTH; all but the first begin with ``indent``."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
