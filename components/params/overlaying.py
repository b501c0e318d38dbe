"""Laying a preset and single values over params.yaml, which keeps its comments."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from components.core.errors import InputError
from components.core.files import write_text
from components.params.presets import PRESETS_DIR, goes_deeper, preset_chain, read_preset
from components.params.reading import check_tree, load_yaml, nearest, plain
from components.params.sections import DEFAULT_PATH

# Whose keys are names of datasets: one that is absent has no value. check_tree knows which there are.
BY_DATASET = (("download", "mirrors"), ("download", "folders"))


@dataclass(frozen=True, slots=True)
class Change:
    """One value that a preset or an override changes."""

    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.key}: {_shown(self.before)} -> {_shown(self.after)}"


def overlay(
    preset: str | None,
    overrides: Sequence[str] = (),
    path: Path = DEFAULT_PATH,
    folder: Path = PRESETS_DIR,
    dry_run: bool = False,
) -> list[Change]:
    """Lay a preset and ``section.key=value`` overrides over the file; returns what changed.

    The result is checked as a whole before anything is written, so a mistake leaves the file as it
    was. Comments and order stay. With ``dry_run`` nothing is written at all.

    Raises:
        InputError: unknown preset, key or section; malformed override; a value that does not fit.
    """
    tree = load_yaml(path, _round_trip())
    changes: list[Change] = []
    if preset is not None:
        for origin, own in preset_chain(preset, folder):
            _require_known(tree, own, (), str(origin))
        _merge(tree, read_preset(preset, folder), (), changes)
    for override in overrides:
        values = _parse_override(override)
        _require_known(tree, values, (), f"--set {override}")
        _merge(tree, values, (), changes)
    check_tree(plain(tree), path)
    if changes and not dry_run:
        buffer = io.StringIO()
        _round_trip().dump(tree, buffer)
        write_text(path, buffer.getvalue())
    return changes


def _require_known(tree: Any, overlaid: Mapping[str, Any], parents: tuple[str, ...], origin: str) -> None:
    for key, value in overlaid.items():
        location = (*parents, str(key))
        if key not in tree and parents not in BY_DATASET:
            raise InputError(f"{origin}: unknown key `{'.'.join(location)}`{nearest(str(key), tree)}")
        if goes_deeper(tree, key, value, location):
            _require_known(tree[key], value, location, origin)


def _merge(tree: Any, overlaid: Mapping[str, Any], parents: tuple[str, ...], changes: list[Change]) -> None:
    for key, value in overlaid.items():
        location = (*parents, str(key))
        if goes_deeper(tree, key, value, location):
            _merge(tree[key], value, location, changes)
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
    """Lists, and mappings whose keys the user names, on one line, as params.yaml has them."""
    written: CommentedSeq | CommentedMap
    if isinstance(value, list):
        written = CommentedSeq(map(_quoted, value))
    elif isinstance(value, Mapping):
        written = CommentedMap((key, _quoted(item)) for key, item in value.items())
    else:
        return value
    written.fa.set_flow_style()
    return written


def _quoted(item: Any) -> Any:
    """On such a line a URL needs quotes: DVC's parser takes its colon for a mapping's."""
    return DoubleQuotedScalarString(item) if isinstance(item, str) and ":" in item else item


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
