"""Presets, and single values, laid over params.yaml, which keeps its comments.

A preset may say ``extends: NAME`` at its top: it is then that preset with its own values laid over it.
"""

import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from components.core import paths
from components.core.errors import InputError
from components.core.files import write_text
from components.params.reading import check_tree, nearest, plain
from components.params.sections import MAX_SHARDS, Section
from components.params.yaml_files import load_yaml, parse_yaml

PRESETS_DIR = Path("presets")
EXTENDS = "extends"
DEFAULT = "demo"  # leads back to params.yaml as shipped
# What presets leave alone: it changes no result but where and how fast it is made, and what a reader sees.
UNTOUCHED = re.compile(
    r"download\.(connections|mirrors|own_data)|.*\.(keep_checkpoints|profile|decoded|shards)"
    r"|stream\.cache_gib|(voc07|caption)\.batch_size|caption\.gallery_images"
)
FREE_MAPPINGS = {("download", "folders", "captions"), ("baseline", "sources")}  # the user names the keys


def list_presets(folder: Path = PRESETS_DIR) -> list[str]:
    """Return the names of all presets: the path below the folder, without the ending."""
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml"))


def preset_summary(name: str) -> str:
    """Return the first sentence of the comment at the top of a preset's file; empty if there is none."""
    lines = (PRESETS_DIR / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#") and line.strip("# "), lines)
    text = " ".join(line.strip("# ") for line in comment)
    return re.split(r"(?<=[.;]) ", text, maxsplit=1)[0].rstrip(".;")


def read_preset(name: str, folder: Path = PRESETS_DIR) -> dict[str, Any]:
    """Return the overlay a preset consists of, with those of the presets that it extends.

    Raises:
        InputError: for an unknown name, naming the nearest one; presets that extend each other.
    """
    overlaid: dict[str, Any] = {}
    for _, own in preset_chain(name, folder):
        overlaid = _laid_over(overlaid, own, ())
    return overlaid


def preset_sections(name: str, path: Path = paths.PARAMS, folder: Path = PRESETS_DIR) -> dict[str, Section]:
    """Return all sections as they are with a preset laid over the file, which stays as it is."""
    return check_tree(plain(_laid_over(load_yaml(path), read_preset(name, folder), ())), path)


def preset_chain(name: str, folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the files and own values of a preset and of all that it extends; its own are the last."""
    known = list_presets(folder)
    if name not in known:
        raise InputError(f"unknown preset `{name}`{nearest(name, known)}")
    names: list[str] = []
    chain: list[tuple[Path, dict[str, Any]]] = []
    base: Any = name
    while base is not None:
        if base not in known:
            raise InputError(
                f"{chain[-1][0]}: `{EXTENDS}`: unknown preset `{base}`{nearest(str(base), known)}"
            )
        if base in names:
            raise InputError(f"{chain[-1][0]}: presets extend each other: {' -> '.join([*names, base])}")
        path = folder / f"{base}.yaml"
        own = _with_lists(load_yaml(path))
        names.append(base)
        base = own.pop(EXTENDS, None)
        chain.append((path, own))
    return chain[::-1]


def write_default(path: Path = paths.PARAMS, folder: Path = PRESETS_DIR) -> None:
    """Write the preset `DEFAULT`, below its comment, from the shipped params.yaml: `make presets`."""
    preset = folder / f"{DEFAULT}.yaml"
    lines = preset.read_text(encoding="utf-8").splitlines(keepends=True)
    buffer = io.StringIO()
    buffer.writelines(itertools.takewhile(lambda line: line.startswith("#"), lines))
    values = {
        name: {
            key: _as_written(value) if isinstance(value, list) else value
            for key, value in section.items()
            if not UNTOUCHED.fullmatch(f"{name}.{key}")
        }
        for name, section in load_yaml(path).items()
    }
    _round_trip().dump(values, buffer)
    write_text(preset, buffer.getvalue())


def _laid_over(base: dict[str, Any], own: Mapping[str, Any], parents: tuple[str, ...]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        location = (*parents, str(key))
        deeper = goes_deeper(merged, key, value, location)
        merged[key] = _laid_over(merged[key], value, location) if deeper else value
    return merged


def matching_presets(path: Path = paths.PARAMS, folder: Path = PRESETS_DIR) -> list[str]:
    """Return presets all of whose values are in force in the file, the most specific first.

    That is the one with most values, and among equals the one that extends most others.
    """
    return [name for name, changed in nearest_presets(path, folder) if not changed]


def nearest_presets(
    path: Path = paths.PARAMS, folder: Path = PRESETS_DIR
) -> list[tuple[str, list[tuple[str, Any]]]]:
    """Return all presets with what the file has in place of their values, by key; the nearest first."""
    tree = load_yaml(path)
    presets = {name: read_preset(name, folder) for name in list_presets(folder)}
    changed = {name: list(_changed(tree, values, "")) for name, values in presets.items()}

    def rank(name: str) -> tuple[int, int, int, str]:
        return len(changed[name]), -_num_values(presets[name]), -len(preset_chain(name, folder)), name

    return [(name, changed[name]) for name in sorted(presets, key=rank)]


def _num_values(overlaid: Any) -> int:
    if isinstance(overlaid, Mapping):
        return sum(map(_num_values, overlaid.values()))
    return 1


def _changed(tree: Any, overlaid: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(overlaid, Mapping) and isinstance(tree, Mapping):
        for name, value in overlaid.items():
            yield from _changed(tree.get(name), value, f"{key}.{name}".lstrip("."))
    elif tree != overlaid:
        yield key, tree


def goes_deeper(tree: Any, key: str, value: Any, location: tuple[str, ...]) -> bool:
    """Return whether the value is laid over the one below it key by key, and does not replace it whole."""
    return isinstance(value, Mapping) and isinstance(tree.get(key), Mapping) and location not in FREE_MAPPINGS


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
    path: Path = paths.PARAMS,
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
    try:
        check_tree(plain(tree), path)
    except InputError as error:
        laid = [*([f"preset {preset}"] if preset else []), *(f"--set {text}" for text in overrides)]
        raise InputError(
            f"{error}\n(with {', '.join(laid) or 'no overrides'}; {path} is not changed)"
        ) from None
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
    try:
        override.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"--set {override}: params.yaml is UTF-8, and this is not; rename the file it names"
        ) from None
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise InputError(f"--set {override}: expected section.key=value, such as pretrain.batch_size=128")
    section, *rest = key.strip().split(".")
    value = parse_yaml(text, f"--set {override[:60]}: the value") if text.strip() else None
    for part in reversed(rest):
        value = {part: value}
    return _with_lists({section: value})


def _with_lists(values: dict[str, Any]) -> dict[str, Any]:
    """Write the numbers of all shards for how many there are to be: a matrix of dvc.yaml needs a list."""
    lmdb = values.get("lmdb")
    if isinstance(lmdb, Mapping) and type(count := lmdb.get("shards")) is int and 1 <= count <= MAX_SHARDS:
        return values | {"lmdb": {**lmdb, "shards": list(range(count)) if count > 1 else []}}
    return values


def _as_written(value: Any) -> Any:
    """Put lists, and mappings whose keys the user names, on one line, as params.yaml has them."""
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
    """Quote a URL on such a line: DVC's parser takes its colon for a mapping's."""
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
