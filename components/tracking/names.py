"""Nested values as MLflow wants them: flat, with the characters it takes."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_REFUSED = re.compile(r"[^\w\-. :/]")


def mlflow_name(name: str) -> str:
    """``name`` with every character that MLflow refuses in keys (``@``, ``=``, ...) as ``/``."""
    return _REFUSED.sub("/", name)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings and pydantic models as ``("section.key", value)``."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if hasattr(value, "model_dump"):
            value = value.model_dump(mode="json")
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{name}.")
        else:
            yield name, value


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The numeric leaves of ``values``; truth values, texts and lists are left out."""
    return {
        name: float(value)
        for name, value in flatten(values)
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
