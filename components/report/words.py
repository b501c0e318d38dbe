"""Numbers and sentences of the report, the same in each of its forms."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from components.core.datasets import DATASETS
from components.core.published import IMAGENET_REMARK, REMARKS, SOURCE, PublishedModel, Setup
from components.dataset_titles import DRAWN, dataset_title, layout_note
from components.params import PRETRAINED
from components.report.protocol import Protocol, pretraining_differences, setup_differences
from components.report.results import (
    MARK,
    NOISE_MARK,
    OTHER_PROTOCOL,
    OTHER_PROTOCOL_MARK,
    PAIR,
    Result,
)

NOT_ASKED = "not run: `probes.which`"
_FEW = 3  # parameters that a sentence names
_SAME = 50.0  # percent of the images with one caption, above which the captioner looks at none
ABSENT = "–"
BACKBONE_TITLES = {PRETRAINED: "VirTex", "random": "Random", "imagenet": "ImageNet"}
LOSS_TITLES = {
    "bicaptioning": "Loss of both directions, nats per token",
    "captioning": "Loss, nats per token",
    "masked_lm": "Loss, nats per hidden token",
    "token_classification": "Loss, nats per image",
    "multilabel_classification": "Loss, nats per image",
    "parallel_captioning": "Loss of both kinds of images, nats per token",
    "parallel_bicaptioning": "Loss of both kinds of images, nats per token",
    "idf_token_classification": "Loss, nats per image",
    "contrastive": "Loss of all pairs, nats per image",
    "contrastive_classification": "Loss of pairs and of words, nats per image",
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


def signed(value: float) -> str:
    """Return one decimal with its sign."""
    return f"{value:+.1f}" if round(value, 1) else "0.0"


def duration(seconds: float) -> str:
    """Return ``1:02:03`` or ``2:03`` in hours, minutes and seconds."""
    text = str(timedelta(seconds=round(seconds)))
    return text.removeprefix("0:").removeprefix("0") if text.startswith("0:") else text


# How a number is written, by name.
FORMS: Mapping[str, Any] = {
    "percent": "{:.1f}".format,
    "points": signed,
    "loss": "{:.3f}".format,
    "perplexity": "{:,.2f}".format,
    "count": "{:,.0f}".format,
    "rate": "{:,.1f}".format,
    "rounded": "{:.0f}".format,
    "duration": duration,
}


def figure_text(figure: Mapping[str, Any] | None, bounds: bool = True) -> str:
    """Return a figure of report.json as text: the number, its interval and mark, or why there is none."""
    if figure is None or figure["value"] is None:
        remark = "" if figure is None else figure["remark"]
        return ABSENT if not remark else "not run" if remark.startswith("not run") else "failed"
    form = FORMS[figure["unit"]]
    interval = (
        "" if figure["low"] is None or not bounds else f" [{form(figure['low'])}, {form(figure['high'])}]"
    )
    return f"{form(figure['value'])}{interval}{figure['mark']}"


def bounds_text(figure: Mapping[str, Any] | None) -> str:
    """Return the ends of a figure's interval as text."""
    if figure is None or figure["low"] is None:
        return ABSENT
    form = FORMS[figure["unit"]]
    return f"{form(figure['low'])}, {form(figure['high'])}"


def taught_by(objective: str) -> str:
    """Say what people wrote or marked that the backbone learns from."""
    return "object labels" if objective == "multilabel_classification" else "captions"


def result_of(results: Sequence[Result], key: str) -> Result:
    """Return the result of one benchmark by its key, such as ``voc07.mAP``."""
    return next(result for result in results if result.benchmark.key == key)


def headline(results: Sequence[Result], objective: str) -> str:
    """Return one sentence that says whether pretraining helped."""
    voc07 = result_of(results, "voc07.mAP")
    caption = result_of(results, "caption.CIDEr-D").value(PRETRAINED)
    captions = "" if caption is None else f" Its captions score CIDEr-D {caption:.1f}."
    if voc07.gain is None:
        return f"Whether pretraining helped is not known: VOC07 is not complete.{captions}"
    ours, random = map(voc07.value, PAIR)
    verdict = "beats" if voc07.gain > 0 else "does not beat"
    gain, bounds = voc07.differences[PAIR[1]], ""
    if gain.low is not None and gain.high is not None:
        bounds = f", 95 % interval {gain.low:+.1f} to {gain.high:+.1f}"
        verdict = "differs by no more than noise from" if gain.is_noise else verdict
    verdict = f"The backbone pretrained on {taught_by(objective)} {verdict}"
    return (
        f"{verdict} the random one on VOC07: "
        f"{ours:.1f} against {random:.1f} mAP ({voc07.gain:+.1f}{bounds}).{captions}"
    )


def headline_figures(results: Sequence[Result]) -> dict[str, float]:
    """Return the few figures for metrics.json by ``benchmark.metric``; without those that are absent.

    The pretrained backbone's, its gain over the random one with the interval's ends, and the others' VOC07.
    """
    figures: dict[str, float | None] = {}
    for result in results:
        if result.benchmark.is_headline:
            key, gain = result.benchmark.key, result.differences.get(PAIR[1])
            figures |= {key: result.value(PRETRAINED), f"{key}_gain": result.gain}
            if gain and gain.low is not None:
                figures |= {f"{key}_gain_low": gain.low, f"{key}_gain_high": gain.high}
    voc07 = result_of(results, "voc07.mAP")
    figures |= {f"voc07.mAP_{name}": voc07.value(name) for name in voc07.figures if name != PRETRAINED}
    return {name: value for name, value in figures.items() if value is not None}


def captions_line(captioning: Mapping[str, Any]) -> str:
    """Say how many captions differ, without which their scores say little; empty where it is not known."""
    number, share = captioning.get("distinct_captions"), captioning.get("most_frequent_share")
    if number is None or share is None:
        return ""
    return (
        f"{number:,} different captions of {captioning['images']:,} images; {share:.1f} % of these have the "
        "most frequent one."
    )


def captions_warning(captioning: Mapping[str, Any]) -> list[str]:
    """Return a warning where most images get the same caption."""
    share = captioning.get("most_frequent_share") or 0.0
    return [f"{share:.0f} % of the images get the same caption: scores say little then"] * (share > _SAME)


def loss_parts(pretraining: Mapping[str, Any]) -> dict[str, float]:
    """Return validation losses by title from pretraining's metrics.json, where the loss is a sum."""
    parts = pretraining.get("val")
    if not isinstance(parts, dict) or len(parts) < 2:
        return {}
    return {f"Validation, {name.replace('_', ' ')}": value for name, value in parts.items()}


def dataset_titles(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Say what the datasets of the run are, by their names."""
    names = [*manifest.get("captions", {}), *(name for name in DATASETS if manifest.get(name))]
    return {name: dataset_title(name, manifest) for name in names}


def data_line(manifest: Mapping[str, Any]) -> str:
    """Say that benchmarks go by the names of data that these are not; empty where they are those."""
    titles = dataset_titles(manifest)
    if manifest.get("source") == DRAWN:
        layouts = listed([DATASETS[name].title for name in titles if name in DATASETS])
        return f"All data are the drawn world: shapes drawn by this project, in the layouts of {layouts}."
    others = [title for name, title in titles.items() if name in DATASETS and title.endswith(" layout)")]
    return f"Not the published data, but others in their layout: {listed(others)}." if others else ""


def comparability(
    rows: Sequence[Mapping[str, Any]], setup: Setup, published: PublishedModel, protocol: Protocol
) -> str:
    """Say which figures may be held against the paper's, and why others may not; ``rows`` of the report."""
    differences = pretraining_differences(setup, published, protocol)
    if differences:
        names = [within(SETUP_TITLES[name]) for name in setup_differences(setup, published)]
        # Fields of the set-up have no section and are said before.
        parameters = [text for text in differences if "." in text.partition(":")[0] or ":" not in text]
        more = f"; and {len(parameters) - _FEW} more" if len(parameters) > _FEW else ""
        named = f"{'; '.join(parameters[:_FEW])}{more}"
        return (
            "**Not comparable with the paper's figures.** They are shown for orientation; this run "
            f"differs in {listed([*names, *([f'parameters of pretraining ({named})'] if named else [])])} "
            "(see Set-up)."
        )
    sentences = [f"This run was pretrained as the paper's {published.name}."]
    alike = [row["row_title"] for row in rows if row["comparable"]]
    if alike:
        sentences.append(f"Measured as the paper does, and comparable with it: {listed(alike)}.")
    others: dict[str, list[str]] = {}
    for row in rows:
        if row["published_difference"]["value"] is not None and not row["comparable"]:
            others.setdefault("; ".join(row["not_the_papers"]), []).append(row["row_title"])
    sentences += [f"**Not comparable**: {listed(titles)} ({reason})." for reason, titles in others.items()]
    if not alike and not others:
        sentences.append("No figure that the paper has too is there.")
    return " ".join(sentences)


def legend(results: Sequence[Result], backbones: Sequence[str], published: PublishedModel) -> str:
    """Say what the columns of the tables are."""
    others = [backbone_title(name) for name in backbones if name not in PAIR]
    sources = f" Where {listed(others)} came from: see baseline.sources in params.yaml." if others else ""
    remarks = [REMARKS[result.benchmark.key] for result in results if result.benchmark.key in REMARKS]
    return " ".join(
        [
            "In percent. VirTex is the backbone of this run, Random the same network untrained, Gain "
            f"their difference.{sources} Intervals are 95 % over test images: where another test set of the "
            f"same size would put the figure. {NOISE_MARK} means no difference: the interval holds zero, "
            f"{OTHER_PROTOCOL_MARK} a figure {OTHER_PROTOCOL}. Chance is what guessing "
            "reaches. "
            f"Paper is the published {published.name} ({SOURCE}), Diff what VirTex has above "
            f"it; where {ABSENT} stands under Paper, its figure is not on record here. {MARK} marks those "
            "that this run may be held against: pretrained and measured as the paper does.",
            IMAGENET_REMARK,
            *remarks,
        ]
    )


def problem_lines(results: Sequence[Result], manifest: Mapping[str, Any]) -> list[str]:
    """Say what has no figure and why, a line per benchmark and reason; not for probes nobody asks for."""
    stages: dict[str, list[Result]] = {}
    for result in results:
        stages.setdefault(result.benchmark.name, []).append(result)
    lines = []
    for of_stage in stages.values():
        reasons: dict[str, dict[str, list[str]]] = {}  # backbones by metric, by reason
        for result in of_stage:
            for backbone, figure in result.figures.items():
                if figure.value is None and not figure.remark.startswith(NOT_ASKED):
                    metrics = reasons.setdefault(figure.remark, {})
                    metrics.setdefault(result.benchmark.metric_title, []).append(backbone_title(backbone))
        benchmark = of_stage[0].benchmark
        for reason, metrics in reasons.items():
            what = benchmark.title + layout_note(benchmark.name, manifest)
            if len(metrics) < len(of_stage):
                what += f" ({', '.join(metrics)})"
            backbones = list(dict.fromkeys(name for names in metrics.values() for name in names))
            whose = f" of {listed(backbones)}" if benchmark.compares_backbones else ""
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


def backbone_title(name: str) -> str:
    """Return a backbone's name, for people."""
    return BACKBONE_TITLES.get(name, name)


def within(title: str) -> str:
    """Return a title for inside a sentence; names in capitals stay."""
    return title if title[:2].isupper() else title[0].lower() + title[1:]


def listed(names: Sequence[str]) -> str:
    """Join names as ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
