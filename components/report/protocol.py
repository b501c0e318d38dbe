"""Which parameters of a run are not those of the published model that it is held against."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components import params
from components.core.paths import PARAMS
from components.core.published import TRANSFORMER_OBJECTIVES, PublishedModel
from components.params.presets import PRESETS_DIR
from components.params.reading import load_yaml

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
        """What differs in one section."""
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
    """A parameter's value as params.yaml has it, numbers in groups of three."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_text, value))}]"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _preset_of(published: PublishedModel, folder: Path) -> str | None:
    """The shortest name among the presets with the model's task and architecture."""
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
