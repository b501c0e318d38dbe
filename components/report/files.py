"""Results files of stages, read gently: what is missing or broken is noted, and the report goes on."""

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.core.foreign_text import from_table_cell


def read_metrics(folder: Path, missing: list[str]) -> dict[str, Any]:
    """Read metrics.json of a stage; empty, and noted in ``missing``, if there is none or it is broken."""
    path = folder / "metrics.json"
    value = read_json(path, missing)
    if value is not None and not isinstance(value, dict):
        missing.append(f"{path} is no table of figures")
    return value if isinstance(value, dict) else {}


def read_json(path: Path, missing: list[str]) -> Any:
    """Return what a JSON file holds, NaN refused; None, and noted in ``missing``, if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError:
        missing.append(f"{path} is missing")
    except (OSError, ValueError, RecursionError) as error:
        missing.append(f"{path} cannot be read: {error}")
    return None


def read_rows(
    path: Path, missing: list[str], *columns: str, labels: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Read rows of a CSV file with ``columns`` as numbers and ``labels`` as text.

    A number that the file leaves empty is absent from its row. Other columns are left out.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return [
                {column: _number(row[column]) for column in columns if row[column] != ""}
                | {label: from_table_cell(str(row[label])) for label in labels}
                for row in csv.DictReader(file)
            ]
    except FileNotFoundError:
        missing.append(f"{path} is missing")
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        missing.append(f"{path} cannot be read: {type(error).__name__} {error}")
    return []


def figure_at(metrics: Any, name: str) -> float | None:
    """Return the number called ``name``, where ``box.AP`` is ``AP`` of the group ``box``; None if absent."""
    value = metrics
    for key in [name] if isinstance(metrics, Mapping) and name in metrics else name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no figure")
    return value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no figure")
