"""Which figures may be held against the paper's: those with its set-up, its protocol and its data."""

from collections.abc import Iterator

from components.core.logs import own_logger
from components.core.published import CLASSES, TRANSFORMER_OBJECTIVES
from components.report.data import ReportData, Result
from components.report.protocol import Protocol, as_text

_logger = own_logger(__name__)

PRETRAINING_SECTIONS = (
    "tokenize", "lmdb", "augmentation", "backbone", "textual_head", "objective", "subset", "optimizer",
    "schedule", "pretrain", "select",
)  # fmt: skip
# Fields of the set-up by the parameters that say the same.
_SETUP_PARAMETERS = {
    ("backbone", "name"): "backbone",
    ("objective", "name"): "objective",
    ("textual_head", "hidden_size"): "hidden_size",
    ("textual_head", "num_layers"): "num_layers",
    ("schedule", "iterations"): "iterations",
    ("pretrain", "batch_size"): "batch_size",
    ("subset", "captions_per_image"): "captions_per_image",
}


def pretraining_differences(data: ReportData, protocol: Protocol) -> list[str]:
    """What pretraining did otherwise than the published model's; in words, "name: ours, paper's"."""
    setup = [
        f"{name}: {as_text(ours)}, paper {as_text(theirs)}"
        for name, ours, theirs in data.compared()
        if ours != theirs and name != "voc07_test_images"
    ]
    if protocol.preset is None:
        return [*setup, "no preset of the published model is here to hold the parameters against"]
    unread = () if data.setup.objective in TRANSFORMER_OBJECTIVES else ("textual_head",)
    sections = [name for name in PRETRAINING_SECTIONS if name not in unread]
    return [*setup, *parameter_differences(protocol, *sections)]


def result_differences(result: Result, data: ReportData, protocol: Protocol) -> list[str]:
    """What makes a figure another one than the paper's; empty if the two may be compared."""
    if result.published is None:
        return ["the paper has no figure"]
    found = pretraining_differences(data, protocol)
    if result.published_model not in (None, data.published.name):
        found.append(f"the paper's figure is of another model: {result.published_model}")
    benchmark = result.benchmark.name
    if benchmark == "voc07":
        ours, theirs = data.setup.voc07_test_images, data.published.setup.voc07_test_images
        if ours != theirs:
            found.append(f"voc07_test_images: {as_text(ours)}, paper {as_text(theirs)}")
    return [*found, *parameter_differences(protocol, benchmark), *_classes(result)]


def is_comparable(result: Result, data: ReportData, protocol: Protocol) -> bool:
    """Whether this run's figure may be held against the paper's; not where either is absent."""
    return result.published_difference is not None and not result_differences(result, data, protocol)


def comparable_results(data: ReportData, protocol: Protocol) -> list[Result]:
    """Those of which that is so."""
    return [result for result in data.results if is_comparable(result, data, protocol)]


def warnings(data: ReportData, protocol: Protocol) -> list[str]:
    """Benchmarks with all of the paper's parameters on data of another number of classes."""
    if protocol.preset is None:
        return []
    return list(
        dict.fromkeys(
            f"{result.benchmark.title} has the paper's parameters and {result.num_classes:,} classes instead "
            f"of {CLASSES[result.benchmark.name]:,}: these are other data, whatever the benchmark is called"
            for result in data.results
            if _classes(result) and not list(parameter_differences(protocol, result.benchmark.name))
        )
    )


def warn(texts: list[str]) -> None:
    """Print them, whatever libraries do to logging."""
    for text in texts:
        _logger.warning("Warning: %s", text)


def _classes(result: Result) -> list[str]:
    expected = CLASSES.get(result.benchmark.name)
    if expected is None or result.num_classes in (None, expected):
        return []
    return [f"classes: {result.num_classes:,}, paper {expected:,}"]


def parameter_differences(protocol: Protocol, *sections: str) -> Iterator[str]:
    """Those of some sections, in words; without what the set-up says already."""
    for section in sections:
        for difference in protocol.of(section):
            if (section, difference.key) not in _SETUP_PARAMETERS:
                ours, paper = as_text(difference.ours), as_text(difference.paper)
                yield f"{section}.{difference.key}: {ours}, paper {paper}"
