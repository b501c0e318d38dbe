"""Presets and overrides: changes laid over params.yaml, which keeps its comments."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter

from components.atomic import write_text
from components.errors import InputError
from components.params.reading import check_tree, load_yaml, nearest, plain
from components.params.sections import DEFAULT_PATH

PRESETS_DIR = Path("presets")
FREE_MAPPINGS = {("download", "folders", "captions"), ("baseline", "sources")}  # the user names the keys


@dataclass(frozen=True, slots=True)
class Change:
    """One value that a preset or an override changes."""

    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.key}: {_shown(self.before)} -> {_shown(self.after)}"


def list_presets(folder: Path = PRESETS_DIR) -> list[str]:
    """Names of all presets: the path below the folder, without the ending."""
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml"))


def read_preset(name: str, folder: Path = PRESETS_DIR) -> dict[str, Any]:
    """The overlay a preset consists of.

    Raises:
        InputError: for an unknown name, naming the nearest one.
    """
    known = list_presets(folder)
    if name not in known:
        raise InputError(f"unknown preset `{name}`{nearest(name, known)}")
    return load_yaml(folder / f"{name}.yaml")


def overlay(
    preset: str | None, overrides: Sequence[str] = (), path: Path = DEFAULT_PATH, folder: Path = PRESETS_DIR
) -> list[Change]:
    """Lay a preset and ``section.key=value`` overrides over the file; returns what changed.

    The result is checked as a whole before anything is written, so a mistake leaves the file as it
    was. Comments and order stay.

    Raises:
        InputError: unknown preset, key or section; malformed override; a value that does not fit.
    """
    tree = load_yaml(path, _round_trip())
    changes: list[Change] = []
    if preset is not None:
        _merge(tree, read_preset(preset, folder), (), folder / f"{preset}.yaml", changes)
    for override in overrides:
        _merge(tree, _parse_override(override), (), Path(f"--set {override}"), changes)
    check_tree(plain(tree), path)
    if changes:
        buffer = io.StringIO()
        _round_trip().dump(tree, buffer)
        write_text(path, buffer.getvalue())
    return changes


def matching_presets(path: Path = DEFAULT_PATH, folder: Path = PRESETS_DIR) -> list[str]:
    """Presets all of whose values are in force in the file."""
    tree = load_yaml(path)
    return [name for name in list_presets(folder) if _agrees(tree, read_preset(name, folder))]


def _agrees(tree: Any, overlaid: Any) -> bool:
    if isinstance(overlaid, Mapping) and isinstance(tree, Mapping):
        return all(key in tree and _agrees(tree[key], value) for key, value in overlaid.items())
    return bool(tree == overlaid)


def _merge(
    tree: Any, overlaid: Mapping[str, Any], parents: tuple[str, ...], origin: Path, changes: list[Change]
) -> None:
    for key, value in overlaid.items():
        location = (*parents, str(key))
        if key not in tree:
            raise InputError(f"{origin}: unknown key `{'.'.join(location)}`{nearest(str(key), tree)}")
        replaces_whole = location in FREE_MAPPINGS
        if isinstance(value, Mapping) and isinstance(tree.get(key), Mapping) and not replaces_whole:
            _merge(tree[key], value, location, origin, changes)
        elif plain(tree.get(key)) != value:
            changes.append(Change(".".join(location), plain(tree.get(key)), value))
            tree[key] = _as_written(value)


def _parse_override(override: str) -> dict[str, Any]:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise InputError(f"--set {override}: expected section.key=value, such as pretrain.batch_size=128")
    section, *rest = key.strip().split(".")
    try:
        value = YAML(typ="safe").load(text) if text.strip() else None
    except YAMLError as error:
        raise InputError(f"--set {override}: the value is not valid YAML: {error}") from None
    for part in reversed(rest):
        value = {part: value}
    return {section: value}


def _as_written(value: Any) -> Any:
    """Lists on one line, as params.yaml has them."""
    if not isinstance(value, list):
        return value
    sequence = CommentedSeq(value)
    sequence.fa.set_flow_style()
    return sequence


class _Representer(RoundTripRepresenter):
    """Writes null as a word; the library leaves it out."""


_Representer.add_representer(
    type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null")
)


def _round_trip() -> YAML:
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.preserve_quotes = True
    yaml.width = 1000
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)
