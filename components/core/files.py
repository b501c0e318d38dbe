"""Files and folders that are either whole or absent: written aside, flushed to disk, renamed."""

import csv
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.core.foreign_text import table_cell


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes the place of ``path``.

    The caller creates a file or a folder there. On any exception the temporary is removed and
    whatever stood at ``path`` stays as it was. What killed processes left beside it is removed first.

    Raises:
        FileNotFoundError: if the caller created nothing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}.partial"
    _remove_left_behind(path)
    try:
        yield temporary
        _flush(temporary)
        _take_place(temporary, path)
        _flush_entry(path.parent)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)  # a full disk refuses an open file, which has no name
        remove(temporary)
        raise


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, atomically."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON to ``path``, atomically; NaN is refused with ValueError."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a header and rows to ``path``, atomically; texts become printable, and none is a formula."""
    with writing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(map(table_cell, row) for row in rows)


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text says.

    Raises:
        ValueError: it is none, is not UTF-8, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        OSError: it cannot be read.
        ValueError: as ``parse_json``.
    """
    return parse_json(path.read_text(encoding="utf-8"))


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds; an empty one where there is none, or the file is broken."""
    try:
        value = read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold a lock file; the lock is the system's, so a process that is gone holds nothing.

    Raises:
        BlockingIOError: another holds it, and ``wait`` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield
        finally:
            fcntl.flock(stream, fcntl.LOCK_UN)  # for a process that was forked meanwhile and has the file too


def link_or_copy(source: Path | str, destination: Path | str) -> None:
    """Give a large file that nobody changes a second name; copy it where the disk has no hard links."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copy2(source, destination)


def _take_place(temporary: Path, path: Path) -> None:
    """Rename; a folder cannot be renamed over another one, so that one steps aside and goes last."""
    if not temporary.is_dir() or not os.path.lexists(path):
        os.replace(temporary, path)
        return
    former = temporary.with_suffix(".former.partial")
    os.replace(path, former)
    try:
        os.replace(temporary, path)
    except BaseException:
        os.replace(former, path)
        raise
    remove(former)


def _remove_left_behind(path: Path) -> None:
    """Remove the temporaries of ``path`` whose process has ended, and an earlier one of this process."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+)(\.former)?\.partial")
    for entry in list(path.parent.iterdir()):
        match = pattern.fullmatch(entry.name)
        if match and (int(match[1]) == os.getpid() or not _is_running(int(match[1]))):
            remove(entry)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    if path.is_dir():
        for folder, _, files in os.walk(path):
            for name in files:
                _flush_entry(Path(folder, name))
            _flush_entry(Path(folder))
    else:
        _flush_entry(path)


def _flush_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
