"""Prefect's SQLite file: whole or absent, and one that was never finished is put aside.

Prefect makes it in some hundred steps, each written at once: interrupted between them (a signal, a full
disk), it cannot go on ("table already exists") and its server never starts again. Here it is made, or
brought to the format of another version, beside its place.
"""

import contextlib
import os
import sqlite3
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from components.core.files import locked, write_text, writing

DATABASE_VARIABLE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
_SCHEME = "sqlite+aiosqlite:///"
_BUSY_SECONDS = 60.0
_SHOWN = 300  # characters of what Prefect says of a failure
_BESIDE = ("-wal", "-shm", "-journal")  # files that SQLite has beside it
# What is said of one that was interrupted, or is damaged.
_UNFINISHED = ("already exists", "duplicate column", "no such", "not a database", "malformed")


class PrefectFailed(Exception):
    """Prefect did not make its database; has its last words."""


def create_app() -> object:
    """Return Prefect's guarded server on a database that is whole; a factory for uvicorn."""
    from pipelines.guarded_prefect import create_app as create_guarded

    url = os.environ.get(DATABASE_VARIABLE, "")
    if url.startswith(_SCHEME):
        try:
            ensure_database(Path(url.removeprefix(_SCHEME)))
        except (OSError, sqlite3.Error, PrefectFailed) as error:
            place = url.removeprefix(_SCHEME)
            sys.exit(f"Prefect's database {place} cannot be made: {error}; move it aside if it is there")
    return create_guarded()


def ensure_database(database: Path) -> None:
    """Make the file, or bring it to the format of this version of Prefect, unless it has that already.

    Raises:
        PrefectFailed: a new file cannot be made; nothing is left of it.
        OSError: of the disk.
    """
    stamp = database.with_name(f"{database.name}.version")
    with locked(database.with_name(f"{database.name}.lock")):
        if _is_finished(database, stamp):
            return
        stamp.unlink(missing_ok=True)
        if database.exists():
            try:
                _check(database)
                _replace(database, like=database)
            except (PrefectFailed, sqlite3.DatabaseError) as error:
                if not any(sign in str(error) for sign in _UNFINISHED):
                    raise  # a full disk, say: the file may be fine
                aside = _put_aside(database)
                print(f"{database} is incomplete and was moved aside to {aside.name} ({error})", flush=True)
        if not database.exists():
            _replace(database, like=None)
        write_text(stamp, version("prefect"))


def _put_aside(database: Path) -> Path:
    aside = database.with_name(f"{database.name}.unfinished")
    for ending in ("", *_BESIDE):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{database}{ending}", f"{aside}{ending}")
    return aside


def _is_finished(database: Path, stamp: Path) -> bool:
    try:
        if not database.stat().st_size or stamp.read_text(encoding="utf-8") != version("prefect"):
            return False
        _check(database)
    except sqlite3.OperationalError:  # somebody is writing to it
        return True
    except (OSError, ValueError, PrefectFailed, sqlite3.DatabaseError):
        return False
    return True


def _check(database: Path) -> None:
    """Read the file through, which finds what a power cut or a bad disk has left of it.

    Raises:
        PrefectFailed: it is malformed.
        sqlite3.DatabaseError: it is no database, or malformed.
    """
    with contextlib.closing(sqlite3.connect(database, timeout=_BUSY_SECONDS)) as connection:
        said = connection.execute("PRAGMA quick_check(1)").fetchone()
        if not said or said[0] != "ok":
            raise PrefectFailed(f"malformed: {said[0] if said else 'no answer'}")


def _replace(database: Path, like: Path | None) -> None:
    """Put a file of this version in its place: a new one, or one with the contents of ``like``."""
    with writing(database) as temporary:
        for left in database.parent.glob(f".{database.name}.*.partial-*"):  # beside one that was killed
            left.unlink(missing_ok=True)
        if like:
            _copy(like, temporary)
        command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
        environment = {**os.environ, DATABASE_VARIABLE: f"{_SCHEME}{temporary.absolute()}"}
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        if run.returncode != 0:
            lines = (run.stdout + run.stderr).strip().splitlines()
            words = [line for line in lines if "Error" in line][-1:] or lines[-1:]
            raise PrefectFailed("".join(words)[-_SHOWN:] or f"exit status {run.returncode}")
        for place in (temporary, database):  # what is left of them belongs to no file any more
            for ending in _BESIDE:
                place.with_name(place.name + ending).unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    """Copy contents, with those only in the write-ahead log, which a plain copy would miss."""
    with (
        contextlib.closing(sqlite3.connect(source, timeout=_BUSY_SECONDS)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)
