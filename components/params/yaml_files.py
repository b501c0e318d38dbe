"""YAML files of users, with an error that a person can act on for whatever may stand in them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent

from components.core.errors import InputError

_CONFLICT = re.compile(r"^(<{7}|>{7})( |$)", re.MULTILINE)
_LONG_NUMBER = re.compile(r"\d{4300}")  # Python reads no longer ones
_MOST_LEVELS, _MOST_VALUES, _MOST_BITS = 50, 1_000_000, 63
_SUSPICIOUS = 1000  # brackets and indentation of a text whose levels are counted before it is parsed
_SHOWN = 100  # characters of a wrong value


def load_yaml(path: Path, yaml: YAML | None = None) -> dict[str, Any]:
    """Parse a YAML 1.2 file whose top level is a mapping, with ``yaml`` or else to plain values.

    Raises:
        InputError: the file is missing, not UTF-8, not YAML, or holds something else.
    """
    text = _read_text(Path(path))
    if conflict := _CONFLICT.search(text):
        line = text.count("\n", 0, conflict.start()) + 1
        raise InputError(
            f"{path}: line {line}: a conflict that Git has marked; keep one side there and drop the marks, "
            f"or take one side whole: `git checkout --ours {path}` or `--theirs`"
        )
    tree = parse_yaml(text, str(path), yaml)
    if not isinstance(tree, dict):
        found = "nothing" if tree is None else type(tree).__name__
        raise InputError(f"{path}: expected sections of keys at the top level, found {found}")
    return tree


def parse_yaml(text: str, origin: str, yaml: YAML | None = None) -> Any:
    """Parse YAML 1.2 with ``yaml``, or else to plain values; ``origin`` begins the messages.

    Raises:
        InputError: not YAML, nested deeper or with more values than any file of ours, or a number of
            more than 64 bits.
    """
    try:
        _require_shallow(text, origin)
        tree = (yaml or YAML(typ="safe")).load(text)
    except InputError:
        raise
    except YAMLError as error:
        raise InputError(f"{origin}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise InputError(f"{origin}: nested too deeply; expected at most {_MOST_LEVELS} levels") from None
    except ValueError as error:  # or a date that is none
        if long := _LONG_NUMBER.search(text):
            line = text.count("\n", 0, long.start()) + 1
            raise InputError(
                f"{origin}: line {line}: a number of thousands of digits; expected at most 19"
            ) from None
        raise InputError(f"{origin}: a value cannot be read: {error}") from None
    _check_extent(tree, origin)
    return tree


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if path.is_symlink():
            raise InputError(f"{path}: a link to {path.readlink()}, which is not there; restore it") from None
        raise InputError(f"{path}: no such file; run from the repository's root folder") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: line {line}: not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        reason = "a folder" if path.is_dir() else f"cannot be read ({error.strerror})"
        raise InputError(f"{path}: {reason}; expected a YAML file that you may read") from None


def _require_shallow(text: str, origin: str) -> None:
    """Refuse what is nested so deeply that the parser's recursion, which is in C, would end the process."""
    if not may_be_deep(text):
        return
    depth = 0
    for event in YAML(typ="safe").parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > _MOST_LEVELS:
            raise InputError(f"{origin}: nested too deeply; expected at most {_MOST_LEVELS} levels")


def may_be_deep(text: str) -> bool:
    """Return whether a text may be nested as deeply as that; quick, and True for much that is not."""
    indented = max((len(line) - len(line.lstrip(" -?\t")) for line in text.splitlines()), default=0)
    return indented + text.count("[") + text.count("{") >= _SUSPICIOUS


def _check_extent(tree: Any, origin: str) -> None:
    """Refuse what would take for ever, or break what reads it: depth, aliases that multiply, huge numbers."""
    left: list[tuple[Any, tuple[str, ...]]] = [(tree, ())]
    number = 0
    while left:
        value, place = left.pop()
        number += 1
        if len(place) > _MOST_LEVELS or number > _MOST_VALUES:
            what = f"deeper than {_MOST_LEVELS} levels" if number <= _MOST_VALUES else "of too many values"
            raise InputError(f"{origin}: `{'.'.join(place[:3])}` is {what}; is it an alias of itself?")
        if isinstance(value, Mapping):
            left += ((item, (*place, str(key))) for key, item in value.items())
        elif isinstance(value, list | tuple):
            left += ((item, (*place, str(index))) for index, item in enumerate(value))
        elif isinstance(value, int) and value.bit_length() > _MOST_BITS:
            key = f"`{'.'.join(place)}`: " if place else ""
            raise InputError(f"{origin}: {key}a number of {value.bit_length()} bits; expected at most 63")


def shown(value: object) -> str:
    """Return a wrong value for a message, cut short."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"
