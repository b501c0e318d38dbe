"""Reading a captioned-image store (format: components.data.record)."""

import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb

from components.core.errors import InputError
from components.data.record import (
    INDEX_KEY,
    META_KEY,
    Metadata,
    Record,
    StoreIndex,
    key_of,
    unpack_index,
    unpack_metadata,
    unpack_record,
)

IDENTIFYING_RECORDS = 256  # that `identify` reads, spread over the store


class CaptionStore:
    """The images and captions of one split, by index.

    Nothing is opened before the first use, and each process opens the file for itself, so a store
    may be pickled, forked with and shared by threads. An opened file stays open until its process
    ends; one that replaces it under the same name is another file, which only new stores see.

    Every method raises InputError if the file is missing, damaged or of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._file: _OpenFile | None = None

    def __len__(self) -> int:
        return self.metadata.count

    def __iter__(self) -> Iterator[Record]:
        return (self.get(index) for index in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_file": None}

    @property
    def metadata(self) -> Metadata:
        """What the store says about itself."""
        self._environment()
        assert self._file is not None
        return self._file.metadata

    @property
    def index(self) -> StoreIndex:
        """Return how many captions and which labels each record has; read anew each time, no images."""
        environment = self._environment()
        try:
            with environment.begin() as transaction:
                return unpack_index(transaction.get(INDEX_KEY, b""))
        except (ValueError, lmdb.Error) as error:
            raise _broken(self.path, str(error)) from error

    def get(self, index: int) -> Record:
        """Return record ``index``, from 0.

        Raises:
            IndexError: if there is no such record.
        """
        environment = self._environment()
        if not 0 <= index < self.metadata.count:
            raise IndexError(f"{self.path} has no record {index}, only 0 to {self.metadata.count - 1}")
        try:
            with environment.begin(buffers=True) as transaction:
                value = transaction.get(key_of(index))
                if value is None:
                    raise ValueError("the record is missing")
                return unpack_record(value)
        except (ValueError, lmdb.Error) as error:
            raise _broken(self.path, f"record {index}: {error}") from error

    def _environment(self) -> lmdb.Environment:
        if self._file is None:
            self._file = _open_file(self.path)
        return self._file.environment()


@dataclass(frozen=True, slots=True)
class Identity:
    """Digest of a store's metadata, size, and of some hundred records; the datasets that those are of."""

    digest: str
    datasets: tuple[str, ...]


def identify(store: CaptionStore) -> Identity:
    """Tell which images and captions a store holds, from `IDENTIFYING_RECORDS` of its records, or all."""
    digest = hashlib.sha256(f"{store.metadata} {store.index} {store.path.stat().st_size}".encode())
    datasets: set[str] = set()
    for index in range(0, len(store), max(1, len(store) // IDENTIFYING_RECORDS)):
        record = store.get(index)
        digest.update(repr((record.image_id, record.captions)).encode() + record.image)
        datasets.add(record.dataset)
    return Identity(digest.hexdigest(), tuple(sorted(datasets)))


class _OpenFile:
    """One open LMDB file, shared by the stores of a process: LMDB refuses to open a file twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._environment = _open_environment(path)
        self._pid = os.getpid()
        self.metadata = _read_metadata(path, self._environment)

    def environment(self) -> lmdb.Environment:
        if self._pid != os.getpid():  # inherited by fork
            with _lock:
                if self._pid != os.getpid():
                    self._environment.close()
                    self._environment = _open_environment(self.path)
                    self._pid = os.getpid()
        return self._environment


_open_files: dict[tuple[int, int], _OpenFile] = {}  # by device and inode
_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def _open_file(path: Path) -> _OpenFile:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path}: no such store ({error.strerror}); run the lmdb stage first") from error
    with _lock:
        key = (status.st_dev, status.st_ino)
        file = _open_files.get(key)
        if file is None:
            file = _open_files[key] = _OpenFile(path.absolute())
        return file


def _open_environment(path: Path) -> lmdb.Environment:
    try:
        environment = lmdb.open(
            str(path), subdir=False, readonly=True, lock=False, readahead=False, max_dbs=0
        )
    except (lmdb.Error, OSError) as error:
        raise _broken(path, str(error)) from error
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if path.stat().st_size < needed:  # reading past the end of the map would kill the process
        environment.close()
        raise _broken(path, f"truncated to {path.stat().st_size:,} of {needed:,} bytes")
    return environment


def _read_metadata(path: Path, environment: lmdb.Environment) -> Metadata:
    try:
        with environment.begin() as transaction:
            value = transaction.get(META_KEY)
        if value is None:
            raise ValueError("no metadata, so it is unfinished or not a store of this project")
        metadata = unpack_metadata(value)
        entries = environment.stat()["entries"] - 2  # the index and the metadata
        if entries != metadata.count:
            raise ValueError(f"{entries} records where its metadata says {metadata.count}")
    except (ValueError, lmdb.Error) as error:
        environment.close()
        raise _broken(path, str(error)) from error
    return metadata


def _broken(path: Path, reason: str) -> InputError:
    return InputError(f"{path}: not a usable store: {reason}; remove it and run the lmdb stage again")
