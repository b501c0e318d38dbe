"""Presets: named overlays on params.yaml.

A preset may say ``extends: NAME`` at its top: it is then that preset with its own values laid over it.
"""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.params.reading import load_yaml, nearest
from components.params.sections import DEFAULT_PATH

PRESETS_DIR = Path("presets")
EXTENDS = "extends"
FREE_MAPPINGS = {("download", "folders", "captions"), ("baseline", "sources")}  # the user names the keys


def list_presets(folder: Path = PRESETS_DIR) -> list[str]:
    """Names of all presets: the path below the folder, without the ending."""
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml"))


def preset_summary(name: str, folder: Path = PRESETS_DIR) -> str:
    """The first sentence of the comment at the top of a preset's file; empty if there is none."""
    lines = (folder / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#") and line.strip("# "), lines)
    text = " ".join(line.strip("# ") for line in comment)
    return re.split(r"(?<=[.;]) ", text, maxsplit=1)[0].rstrip(".;")


def read_preset(name: str, folder: Path = PRESETS_DIR) -> dict[str, Any]:
    """The overlay a preset consists of, with those of the presets that it extends.

    Raises:
        InputError: for an unknown name, naming the nearest one; presets that extend each other.
    """
    overlaid: dict[str, Any] = {}
    for _, own in preset_chain(name, folder):
        overlaid = _laid_over(overlaid, own, ())
    return overlaid


def preset_chain(name: str, folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Files and own values of a preset and of all that it extends; its own are the last."""
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
        own = load_yaml(path)
        names.append(base)
        base = own.pop(EXTENDS, None)
        chain.append((path, own))
    return chain[::-1]


def _laid_over(base: dict[str, Any], own: Mapping[str, Any], parents: tuple[str, ...]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        location = (*parents, str(key))
        deeper = goes_deeper(merged, key, value, location)
        merged[key] = _laid_over(merged[key], value, location) if deeper else value
    return merged


def matching_presets(path: Path = DEFAULT_PATH, folder: Path = PRESETS_DIR) -> list[str]:
    """Presets all of whose values are in force in the file, the most specific first.

    That is the one with most values, and among equals the one that extends most others.
    """
    tree = load_yaml(path)
    presets = {name: read_preset(name, folder) for name in list_presets(folder)}

    def rank(name: str) -> tuple[int, int, str]:
        return -_num_values(presets[name]), -len(preset_chain(name, folder)), name

    return sorted((name for name, values in presets.items() if _agrees(tree, values)), key=rank)


def _num_values(overlaid: Any) -> int:
    if isinstance(overlaid, Mapping):
        return sum(map(_num_values, overlaid.values()))
    return 1


def _agrees(tree: Any, overlaid: Any) -> bool:
    if isinstance(overlaid, Mapping) and isinstance(tree, Mapping):
        return all(key in tree and _agrees(tree[key], value) for key, value in overlaid.items())
    return bool(tree == overlaid)


def goes_deeper(tree: Any, key: str, value: Any, location: tuple[str, ...]) -> bool:
    """Whether the value is laid over the one below it key by key, and does not replace it whole."""
    return isinstance(value, Mapping) and isinstance(tree.get(key), Mapping) and location not in FREE_MAPPINGS
