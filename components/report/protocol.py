"""Which figures may be held against the paper's: those with its set-up, its parameters and its data."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components import params
from components.benchmarks.shared.protocols import PROTOCOLS
from components.core import paths
from components.core.logs import own_logger
from components.core.paths import PARAMS
from components.core.published import CLASSES, TRANSFORMER_OBJECTIVES, PublishedModel, Setup
from components.params.presets import PRESETS_DIR
from components.params.yaml_files import load_yaml
from components.report.files import read_metrics
from components.report.results import NO_PROTOCOL, Result

_logger = own_logger(__name__)

PAPER_PRESETS = "coco/"  # each is a published row
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
    """The paper's preset, None without presets, what it says, and what differs from it."""

    preset: str | None
    differences: list[Difference] = field(default_factory=list)
    paper: Mapping[str, Any] = field(default_factory=dict)

    def of(self, section: str) -> list[Difference]:
        """Return what differs in one section."""
        return [difference for difference in self.differences if difference.section == section]


def read_protocol(published: PublishedModel, folder: Path = PRESETS_DIR) -> Protocol:
    """Hold the parameters of the working directory against the preset of the published model.

    A key that the preset does not name is taken to be as in the paper.
    """
    name = _preset_of(published, folder)
    if name is None:
        return Protocol(None)
    tree, paper = load_yaml(PARAMS), params.read_preset(name, folder)
    return Protocol(name, list(_differences(tree, paper)), paper)


def as_text(value: Any) -> str:
    """Return a parameter's value as params.yaml has it, numbers in groups of three."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_text, value))}]"
    return f"{value:,}" if isinstance(value, int) else str(value)


def read_setup(given: Mapping[str, Any]) -> Setup:
    """Return the set-up of the run in the working directory, whose results know the numbers of images.

    Args:
        given: sections of params.yaml by name.
    """
    pretraining = read_metrics(paths.stage_dir("pretrain"), [])
    voc07 = read_metrics(paths.stage_dir("voc07", given["benchmarks"].backbones[0]), [])
    captions = given["subset"].captions_per_image
    return Setup(
        captions=_captions(given["download"]),
        captioned_images=pretraining.get("images"),
        captions_per_image="all" if captions is None else captions,
        backbone=given["backbone"].name,
        objective=given["objective"].name,
        hidden_size=given["textual_head"].hidden_size,
        num_layers=given["textual_head"].num_layers,
        iterations=given["schedule"].iterations,
        batch_size=given["pretrain"].batch_size,
        voc07_test_images=voc07.get("num_test"),
    )


def _captions(download: params.Download) -> str:
    """Name the datasets that were pretrained on; ``coco`` alone is taken for COCO Captions."""
    if download.source == "drawn_world":
        return "drawn world"
    names = download.captioned_datasets
    return "COCO Captions" if names == ["coco"] else " + ".join(names)


def compared(setup: Setup, published: PublishedModel) -> list[tuple[str, Any, Any]]:
    """Return the set-up beside the published model's: (name, this run's, the paper's)."""
    head = () if setup.objective in TRANSFORMER_OBJECTIVES else ("hidden_size", "num_layers")
    names = [name for name in Setup.__dataclass_fields__ if name not in head]
    return [(name, getattr(setup, name), getattr(published.setup, name)) for name in names]


def setup_differences(setup: Setup, published: PublishedModel) -> list[str]:
    """Name the fields of the set-up that differ."""
    return [name for name, ours, theirs in compared(setup, published) if ours != theirs]


def pretraining_differences(setup: Setup, published: PublishedModel, protocol: Protocol) -> list[str]:
    """Say what pretraining did otherwise than the published model's; in words, "name: ours, paper's"."""
    found = [
        _in_words(name, ours, theirs)
        for name, ours, theirs in compared(setup, published)
        if ours != theirs and name != "voc07_test_images"
    ]
    if protocol.preset is None:
        return [*found, "no preset of the published model is here to hold the parameters against"]
    unread = () if setup.objective in TRANSFORMER_OBJECTIVES else ("textual_head",)
    sections = [name for name in PRETRAINING_SECTIONS if name not in unread]
    return [*found, *parameter_differences(protocol, *sections)]


def result_differences(
    result: Result, setup: Setup, published: PublishedModel, protocol: Protocol
) -> list[str]:
    """Say what makes a figure another one than the paper's; empty if the two may be compared."""
    if result.published.value is None:
        return ["the paper has no figure"]
    found = pretraining_differences(setup, published, protocol)
    if result.published_model not in (None, published.name):
        found.append(f"the paper's figure is of another model: {result.published_model}")
    benchmark = result.benchmark.name
    ours, theirs = setup.voc07_test_images, published.setup.voc07_test_images
    if benchmark == "voc07" and ours != theirs:
        found.append(_in_words("voc07_test_images", ours, theirs))
    return [*found, *benchmark_differences(result, protocol)]


def benchmark_differences(result: Result, protocol: Protocol) -> list[str]:
    """Say what was measured otherwise than the paper's; settings beside a figure come before params.yaml."""
    benchmark, measured = result.benchmark.name, result.protocol
    settings = measured.get("settings")
    if isinstance(settings, Mapping) and protocol.preset is not None:
        paper = {benchmark: protocol.paper.get(benchmark, {})}
        found = [
            _in_words(f"{benchmark}.{one.key}", one.ours, one.paper)
            for one in _differences({benchmark: settings}, paper)
        ]
    else:
        found = list(parameter_differences(protocol, benchmark))
    known = PROTOCOLS.get(benchmark)
    name, version = measured.get("name"), measured.get("version")
    if measured and known and (name not in (known.name, known.otherwise) or version != known.version):
        found.append(
            f"protocol: {name}, version {version}; that of today: {known.name}, version {known.version}"
        )
    return [*found, *_classes(result)]


def warnings(results: Sequence[Result], protocol: Protocol) -> list[str]:
    """Name benchmarks with all of the paper's parameters on data of another number of classes."""
    if protocol.preset is None:
        return []
    return list(
        dict.fromkeys(
            f"{result.benchmark.title} has the paper's parameters and {result.num_classes:,} classes instead "
            f"of {CLASSES[result.benchmark.name]:,}: these are other data, whatever the benchmark is called"
            for result in results
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
                yield _in_words(f"{section}.{difference.key}", difference.ours, difference.paper)


def _in_words(name: str, ours: Any, theirs: Any) -> str:
    return f"{name}: {as_text(ours)}, paper {as_text(theirs)}"


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
            if key not in NO_PROTOCOL and ours.get(key) != value:
                yield Difference(section, key, ours.get(key), value)


def _classes(result: Result) -> list[str]:
    expected = CLASSES.get(result.benchmark.name)
    if expected is None or result.num_classes in (None, expected):
        return []
    return [f"classes: {result.num_classes:,}, paper {expected:,}"]
