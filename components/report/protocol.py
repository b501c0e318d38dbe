"""Which figures may be held against the paper's: those with its set-up, its parameters and its data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components import params
from components.core.logs import own_logger
from components.core.paths import PARAMS
from components.core.published import CLASSES, TRANSFORMER_OBJECTIVES, PublishedModel
from components.params.presets import PRESETS_DIR
from components.params.reading import load_yaml
from components.report.data import ReportData, Result

_logger = own_logger(__name__)

PAPER_PRESETS = "coco/"  # each is a published row
# Where data lie, what is kept and how often something is said: no result depends on these.
_NO_PROTOCOL = frozenset(
    (
        "seed",
        "published",
        "folders",
        "own_data",
        "mirrors",
        "connections",
        "drawn_world",
        "accumulate",
        "checkpoint_every",
        "keep_checkpoints",
        "keep_candidates",
        "log_every",
        "validate_every",
        "gallery_images",
        "sources",
        "backbones",
        "detection_backbones",
        "more_learning_rates",
    )
)
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


@dataclass(frozen=True, slots=True)
class Difference:
    """One parameter: its section and key in params.yaml, its value in this run and the paper's."""

    section: str
    key: str
    ours: Any
    paper: Any


@dataclass(frozen=True, slots=True)
class Protocol:
    """The paper's preset, None without presets, and what differs from it."""

    preset: str | None
    differences: list[Difference] = field(default_factory=list)

    def of(self, section: str) -> list[Difference]:
        """Return what differs in one section."""
        return [difference for difference in self.differences if difference.section == section]


def read_protocol(published: PublishedModel, path: Path = PARAMS, folder: Path = PRESETS_DIR) -> Protocol:
    """Hold the parameters in ``path`` against the preset of the published model.

    A key that the preset does not name is taken to be as in the paper.
    """
    name = _preset_of(published, folder)
    if name is None:
        return Protocol(None)
    tree, paper = load_yaml(path), params.read_preset(name, folder)
    return Protocol(name, list(_differences(tree, paper)))


def as_text(value: Any) -> str:
    """Return a parameter's value as params.yaml has it, numbers in groups of three."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_text, value))}]"
    return f"{value:,}" if isinstance(value, int) else str(value)


def pretraining_differences(data: ReportData, protocol: Protocol) -> list[str]:
    """Say what pretraining did otherwise than the published model's; in words, "name: ours, paper's"."""
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
    """Say what makes a figure another one than the paper's; empty if the two may be compared."""
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
    """Tell whether this run's figure may be held against the paper's; not where either is absent."""
    return result.published_difference is not None and not result_differences(result, data, protocol)


def comparable_results(data: ReportData, protocol: Protocol) -> list[Result]:
    """Return the results that may be held against the paper's."""
    return [result for result in data.results if is_comparable(result, data, protocol)]


def warnings(data: ReportData, protocol: Protocol) -> list[str]:
    """Name benchmarks with all of the paper's parameters on data of another number of classes."""
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


def parameter_differences(protocol: Protocol, *sections: str) -> Iterator[str]:
    """Yield those of some sections, in words; without what the set-up says already."""
    for section in sections:
        for difference in protocol.of(section):
            if (section, difference.key) not in _SETUP_PARAMETERS:
                ours, paper = as_text(difference.ours), as_text(difference.paper)
                yield f"{section}.{difference.key}: {ours}, paper {paper}"


def _preset_of(published: PublishedModel, folder: Path) -> str | None:
    """Return the shortest name among the presets with the model's task and architecture."""
    setup = published.setup
    wanted: dict[tuple[str, str], Any] = {
        ("objective", "name"): setup.objective,
        ("backbone", "name"): setup.backbone,
    }
    if setup.objective in TRANSFORMER_OBJECTIVES:
        wanted |= {
            ("textual_head", "hidden_size"): setup.hidden_size,
            ("textual_head", "num_layers"): setup.num_layers,
        }
    names = [name for name in params.list_presets(folder) if name.startswith(PAPER_PRESETS)]
    for name in sorted(names, key=len):
        preset = params.read_preset(name, folder)
        if all(preset.get(section, {}).get(key) == value for (section, key), value in wanted.items()):
            return name
    return None


def _differences(tree: Mapping[str, Any], paper: Mapping[str, Any]) -> Iterator[Difference]:
    for section, values in paper.items():
        ours = tree.get(section)
        if not isinstance(values, Mapping) or not isinstance(ours, Mapping):
            continue
        for key, value in values.items():
            if key not in _NO_PROTOCOL and ours.get(key) != value:
                yield Difference(section, key, ours.get(key), value)


def _classes(result: Result) -> list[str]:
    expected = CLASSES.get(result.benchmark.name)
    if expected is None or result.num_classes in (None, expected):
        return []
    return [f"classes: {result.num_classes:,}, paper {expected:,}"]
