"""MLflow's SQLite file: whole or absent, one that was never finished is recognised, a moved one follows.

MLflow makes it in some fifty steps, each written at once: interrupted between them (a signal, a full disk),
it cannot go on ("duplicate column name") and refuses the file ever after. It also keeps absolute locations,
which are led to where the checkout is now when that was moved or copied.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from components.core.errors import InputError
from components.core.files import writing
from components.core.logs import own_logger

_logger = own_logger(__name__)

# Tables with what people would miss. A file without any row there is created again without loss.
_CONTENT = ("runs", "registered_models", "logged_models", "trace_info")
_LOCATIONS = (  # tables and columns in which MLflow keeps them
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_BUSY_SECONDS = 60.0
ADVICE = (
    "move it and mlartifacts aside, and start again: MLflow's record begins anew, results and DVC's record "
    "do not need it"
)


def ensure_database(database: Path) -> None:
    """Make the file if it is not there, or if it is half-made and holds nothing; the caller has the lock.

    Raises:
        InputError: it is damaged and may hold something.
        Exception: whatever MLflow raises; then no file was made.
    """
    if not database.exists():
        _create(database)
        return
    fault = database_fault(database)
    if fault is None:
        return
    _create(database)
    _logger.warning("%s %s and held nothing; it was created again", database, fault)


def database_fault(database: Path) -> str | None:
    """Say what is wrong with a file that holds nothing, None if nothing is; continues "mlflow.db ...".

    Raises:
        InputError: it cannot be read as a database.
    """
    if not database.stat().st_size:
        return "was empty"
    try:
        with closing(sqlite3.connect(database, timeout=_BUSY_SECONDS)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if _holds_something(connection, tables):
                return None  # MLflow's to judge
            found = (
                "alembic_version" in tables
                and connection.execute("SELECT version_num FROM alembic_version").fetchone()
            )
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # locked, or no permission: the file may be fine
            raise
        raise InputError(f"{database}: is not a complete SQLite database: {error}; {ADVICE}") from None
    return None if found and found[0] == _newest_revision() else "was never finished"


def explain_failure(database: Path, error: Exception) -> InputError | None:
    """Say what to do about a file with contents that MLflow cannot bring to its own format; else None."""
    text = str(error).lower()
    if not any(sign in text for sign in ("duplicate column", "already exists", "no such", "revision")):
        return None
    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return InputError(
        f"{database}: MLflow cannot bring it to the format of its version ({reason[:200]}). Put back a copy "
        f"from before MLflow was changed, or {ADVICE}"
    )


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


def _holds_something(connection: sqlite3.Connection, tables: set[str]) -> bool:
    queries = [f"SELECT 1 FROM {table} LIMIT 1" for table in _CONTENT if table in tables]
    if "experiments" in tables:
        queries.append("SELECT 1 FROM experiments WHERE name <> 'Default' LIMIT 1")
    return any(connection.execute(query).fetchone() for query in queries)


def _newest_revision() -> str:
    from mlflow.store.db.utils import _get_latest_schema_revision

    return str(_get_latest_schema_revision())


def _create(database: Path) -> None:
    """Make it aside, in a folder of its own with SQLite's journals, and then renamed."""
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    aside = database.with_name(database.name + ".new")
    shutil.rmtree(aside, ignore_errors=True)  # of a killed process
    aside.mkdir()
    try:
        engine = create_sqlalchemy_engine(f"sqlite:///{(aside / database.name).absolute()}")
        try:
            _initialize_tables(engine)
        finally:
            engine.dispose()
        for journal in ("-journal", "-wal", "-shm"):  # of the former file: SQLite would play it again
            database.with_name(database.name + journal).unlink(missing_ok=True)
        with writing(database) as temporary:
            os.replace(aside / database.name, temporary)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _moves(connection: sqlite3.Connection, name: str, artifacts: Path) -> Iterator[tuple[str, str]]:
    """Yield former and present root of the store, as MLflow writes them: URIs, and plain paths."""
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
