"""SHA-256 of files' contents, and of listings of files with their contents.

Digests are remembered: a file that has not been touched since is not read again. It counts as untouched if
its size, the times of its last change and of its inode's, and the inode are the same: the second time tells
of replacements that keep the first, as ``cp -p`` does. What changed within the last seconds is not
remembered, since a clock's step is longer than a fast writer needs.

One pass over COCO reads 20 GB, over ImageNet 150 GB, as fast as the disk gives them; every later one only
asks the file system for the times. The memory may be deleted at any time.
"""

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from components.core import machine, paths
from components.core.errors import InputError
from components.core.files import sha256

MEMORY = paths.SCRATCH_DIR / "contents.sqlite"
_SETTLED_SECONDS = 3.0  # FAT, the coarsest, counts in steps of 2 s
_SQL_CHUNK = 500
_TABLE = "CREATE TABLE IF NOT EXISTS contents (path BLOB PRIMARY KEY, stamp TEXT, sha256 TEXT) WITHOUT ROWID"


def stamp(status: os.stat_result) -> str:
    """Return what tells whether a file was touched, without reading it."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def listing_sha256(root: Path, image_paths: Iterable[Path]) -> str:
    """Hash as ``named_listing_sha256``; the names are those below ``root``."""
    return named_listing_sha256({path.relative_to(root).as_posix(): path for path in image_paths})


def named_listing_sha256(images: Mapping[str, Path | int]) -> str:
    """Return SHA-256 over the lines ``<name> <content>``, sorted, of files by name.

    The content is the SHA-256 of the file. It is the size in bytes of what is unpacked from an archive,
    whose checksum is known, and of an image inside an archive of one's own, given as the size alone.

    Raises:
        InputError: if a file cannot be read.
    """
    unpacked = Path(os.path.abspath(machine.unpacked_dir()))
    contents: dict[str, int | str] = {}
    to_read: dict[str, Path] = {}
    for name, image in images.items():
        if isinstance(image, int):
            contents[name] = image
        elif Path(os.path.abspath(image)).is_relative_to(unpacked):
            contents[name] = image.stat().st_size
        else:
            to_read[name] = image
    contents |= zip(to_read, content_digests(list(to_read.values())), strict=True)
    lines = sorted(f"{name} {content}\n" for name, content in contents.items())
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def content_digests(files: Sequence[Path]) -> list[str]:
    """Return SHA-256 of each file, in hexadecimal.

    Raises:
        InputError: if one cannot be read.
    """
    names = [os.fsencode(os.path.abspath(path)) for path in files]
    now = time.time()
    stamps: dict[bytes, str] = {}
    settled: set[bytes] = set()
    for name in dict.fromkeys(names):
        with _readable(name):
            status = os.stat(name)
        stamps[name] = stamp(status)
        if max(status.st_mtime, status.st_ctime) < now - _SETTLED_SECONDS:
            settled.add(name)
    with _memory() as memory:
        known = _remembered(memory, stamps)
        unread = [name for name in stamps if name not in known]
        with ThreadPoolExecutor(machine.num_cpus(), "file-hasher") as pool:
            read = dict(zip(unread, pool.map(_sha256, unread), strict=True))
        _remember(memory, [(name, stamps[name], read[name]) for name in unread if name in settled])
    known |= read
    return [known[name] for name in names]


@contextlib.contextmanager
def _memory() -> Iterator[sqlite3.Connection | None]:
    """Open the database; None where it cannot be used, which costs time and nothing else."""
    try:
        MEMORY.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(MEMORY, timeout=10.0)
        database.execute(_TABLE)
    except (sqlite3.Error, OSError):
        with contextlib.suppress(OSError):
            MEMORY.unlink()  # damaged, perhaps: the next one starts anew
        yield None
        return
    with contextlib.closing(database):
        yield database


def _remembered(memory: sqlite3.Connection | None, stamps: dict[bytes, str]) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    if memory is None:
        return found
    names = list(stamps)
    with contextlib.suppress(sqlite3.Error):
        for start in range(0, len(names), _SQL_CHUNK):
            chunk = names[start : start + _SQL_CHUNK]
            marks = ", ".join("?" * len(chunk))
            query = f"SELECT path, stamp, sha256 FROM contents WHERE path IN ({marks})"
            for name, then, digest in memory.execute(query, chunk):
                if stamps[name] == then:
                    found[name] = digest
    return found


def _remember(memory: sqlite3.Connection | None, rows: Iterable[tuple[bytes, str, str]]) -> None:
    if memory is not None:
        with contextlib.suppress(sqlite3.Error), memory:
            memory.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?)", rows)


def _sha256(name: bytes) -> str:
    with _readable(name):
        return sha256(Path(os.fsdecode(name)))


@contextlib.contextmanager
def _readable(name: bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{os.fsdecode(name)}: cannot be read ({error.strerror}); check the dataset's folder"
        ) from error
