"""Nested values as MLflow wants them: flat, with names that it takes."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_LONGEST = 250  # characters of a key, MLflow's limit
_GROUPS = re.compile(r"[@=]")  # MLflow groups charts by what stands before a slash
_REFUSED = re.compile(r"[^\w\-. :/]")


def mlflow_name(name: str) -> str:
    """Return ``name`` as MLflow takes it in keys.

    So ``lmdb@train`` is ``lmdb/train``, and ``remote (tv)`` is ``remote _tv_``.

    MLflow takes letters, digits and ``_-. :/``, of paths only those that are written in the one normal way
    (no ``a//b``, ``/a``, ``a/``, ``a/.`` or ``../a``), and 250 characters.
    """
    parts = _REFUSED.sub("_", _GROUPS.sub("/", name)).split("/")
    legal = "/".join("_" * len(part) if part in (".", "..") else part for part in parts if part) or "_"
    if legal.startswith(".."):
        legal = "__" + legal[2:]
    return legal if len(legal) <= _LONGEST else _marked(legal, name)


def mlflow_names(names: Iterable[str], taken: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the MLflow name of each of ``names``, no two the same.

    Where several would share one, that which needs no change keeps it, else the first; the others end in
    a digest of their own, which is the same in each run.

    Args:
        names: as ours.
        taken: what earlier ones became, which stays.
    """
    found = dict(taken or {})
    owners = {legal: name for name, legal in found.items()}
    new = [name for name in dict.fromkeys(names) if name not in found]
    for name in sorted(new, key=lambda name: mlflow_name(name) != name):
        legal = mlflow_name(name)
        if owners.setdefault(legal, name) != name:
            legal = _marked(legal, name)
            owners[legal] = name
        found[name] = legal
    return found


def _marked(legal: str, name: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{legal[: _LONGEST - len(digest) - 1].rstrip('/')} {digest}"


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings and pydantic models as ``("section.key", value)``."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if hasattr(value, "model_dump"):
            value = value.model_dump(mode="json")
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{name}.")
        else:
            yield name, value


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the numeric leaves of ``values``; truth values, texts and lists are left out."""
    return {
        name: float(value)
        for name, value in flatten(values)
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
