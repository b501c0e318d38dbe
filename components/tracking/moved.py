"""A checkout that was moved or copied: MLflow's absolute locations, led to where it is now."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from components.core.logs import own_logger

_logger = own_logger(__name__)

_LOCATIONS = (  # tables and columns in which MLflow keeps them
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_BUSY_SECONDS = 60.0


def follow_move(database: Path, artifacts: Path) -> int:
    """Rewrite what leads to a former place of ``artifacts``; returns how many locations did.

    A copy so never writes into the original. The caller has the store's lock.

    Args:
        database: MLflow's SQLite file.
        artifacts: where artifacts lie now, absolute; experiments that this project made name such a folder.
    """
    with closing(sqlite3.connect(database, timeout=_BUSY_SECONDS)) as connection:
        known = [(table, column) for table, column in _LOCATIONS if _has(connection, table, column)]
        if ("experiments", "artifact_location") not in known:
            return 0
        moves = sorted(set(_moves(connection, database.name, artifacts)))
        if not moves:
            return 0
        with connection:
            changed = sum(
                _rewrite(connection, table, column, before, after)
                for before, after in moves
                for table, column in known
            )
    places = ", ".join(sorted({before for before, _ in moves if not before.startswith("file:")}))
    _logger.warning(
        "MLflow's record was made in %s; its %d locations now lead to %s", places, changed, artifacts.parent
    )
    return changed


def _moves(connection: sqlite3.Connection, name: str, artifacts: Path) -> Iterator[tuple[str, str]]:
    """Former and present root of the store, as MLflow writes them: URIs, and plain paths."""
    root = artifacts.parent
    for (location,) in connection.execute("SELECT DISTINCT artifact_location FROM experiments"):
        former = _local_path(location or "")
        if former is None or former.name != artifacts.name or _is_same(former.parent, root):
            continue
        before = former.parent
        if former.is_dir() and not artifacts.exists() and not (before / name).exists():
            continue  # a place for artifacts that somebody chose
        yield before.as_uri(), root.as_uri()
        yield str(before), str(root)
        if location.startswith("file:"):
            yield location.removesuffix(f"/{artifacts.name}"), root.as_uri()


def _rewrite(connection: sqlite3.Connection, table: str, column: str, before: str, after: str) -> int:
    done = connection.execute(
        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
        (after, len(before) + 1, before, len(before) + 1, f"{before}/"),
    )
    return done.rowcount


def _has(connection: sqlite3.Connection, table: str, column: str) -> bool:
    return any(row[1] == column for row in connection.execute(f"PRAGMA table_info({table})"))


def _local_path(location: str) -> Path | None:
    parts = urlsplit(location)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return Path(location) if location.startswith("/") else None


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one == other or one.samefile(other)
    except OSError:
        return False
