"""Reading a captioned-image store (format: components.data.record), in one file or in shards."""

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

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
from components.data.shards import ASSIGNED_KEY, ShardedStore, facts_of, shard_path

IDENTIFYING_RECORDS = 256  # that `identify` reads, spread over the store


class CaptionStore:
    """The images and captions of one split, by index.

    Nothing is opened before the first use, and each process opens the file for itself, so a store
    may be pickled, forked with and shared by threads. An opened file stays open until its process
    ends; one that replaces it under the same name is another file, which only new stores see.

    A head (components.data.shards) and its shards are one store, with the order of the images and all else
    that one file would have. A shard is opened where a record of it is wanted.

    Every method raises InputError if a file is missing, damaged or of another version.

    Args:
        path: the file, or the head.
        shards: what the shards say about themselves, by number, where not all of them are on this disk.
    """

    def __init__(self, path: Path, shards: Mapping[int, Metadata] | None = None) -> None:
        self.path = Path(path)
        self._file: _OpenFile | None = None
        self._known = shards
        self._sharded: ShardedStore | None = None
        self._shards: dict[int, CaptionStore] = {}

    def __len__(self) -> int:
        return self.metadata.count

    def __iter__(self) -> Iterator[Record]:
        return (self.get(index) for index in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        fresh = CaptionStore(self.path, self._known)
        return fresh.__dict__

    @property
    def metadata(self) -> Metadata:
        """What the store says about itself, or the head and its shards together."""
        sharded = self.sharded
        return self._own_metadata() if sharded is None else sharded.metadata

    @property
    def num_shards(self) -> int:
        """How many shards the store has, 0 for one file."""
        head = self._own_metadata().head
        return 0 if head is None else len(head.known)

    @property
    def sharded(self) -> ShardedStore | None:
        """Where the records are, of a store in shards; None for one file."""
        if self._sharded is None and self.num_shards:
            assigned = self._assigned()
            known = self._known or self.shard_metadata(range(self.num_shards))
            shards = [known[number] for number in range(self.num_shards)]
            self._sharded = ShardedStore.join(self.path, self._own_metadata(), assigned, shards)
        return self._sharded

    def shard_metadata(self, numbers: range) -> dict[int, Metadata]:
        """Return what some shards, which must be on this disk, say about themselves.

        Raises:
            InputError: one is missing, or none of this head.
        """
        head = self._own_metadata()
        found = {number: self._shard(number)._own_metadata() for number in numbers}
        for number, metadata in found.items():
            facts_of(self.path, head, number, metadata)
        return found

    @property
    def index(self) -> StoreIndex:
        """Return how many captions and which labels each record has; read again each time, no images."""
        sharded = self.sharded
        try:
            index = unpack_index(self._value(INDEX_KEY))
        except (ValueError, lmdb.Error) as error:
            raise _broken(self.path, str(error)) from error
        return index if sharded is None else sharded.index(index)

    def get(self, index: int) -> Record:
        """Return record ``index``, from 0.

        Raises:
            IndexError: if there is no such record.
        """
        count = self.metadata.count
        if not 0 <= index < count:
            raise IndexError(f"{self.path} has no record {index}, only 0 to {count - 1}")
        if (sharded := self.sharded) is not None:
            return self._shard(int(sharded.shards[index])).get(int(sharded.places[index]))
        environment = self._environment()
        try:
            with environment.begin(buffers=True) as transaction:
                value = transaction.get(key_of(index))
                if value is None:
                    raise ValueError("the record is missing")
                return unpack_record(value)
        except (ValueError, lmdb.Error) as error:
            raise _broken(self.path, f"record {index}: {error}") from error

    def _shard(self, number: int) -> "CaptionStore":
        if number not in self._shards:
            self._shards[number] = CaptionStore(shard_path(self.path, number))
        return self._shards[number]

    def _assigned(self) -> NDArray[np.uint16]:
        """Return the shard of each image that a head names."""
        assigned = np.frombuffer(self._value(ASSIGNED_KEY), "<u2")
        if len(assigned) != self._own_metadata().count or assigned.max() >= self.num_shards:
            raise _broken(self.path, "its assignment to shards is damaged")
        return assigned

    def _value(self, key: bytes) -> bytes:
        with self._environment().begin() as transaction:
            value: bytes = transaction.get(key, b"")
            return value

    def _own_metadata(self) -> Metadata:
        self._environment()
        assert self._file is not None
        return self._file.metadata

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
    """Tell which images and captions a store holds.

    From `IDENTIFYING_RECORDS` of its records, or all; of shards from the digests that they keep.
    """
    if (sharded := store.sharded) is not None:
        return Identity(sharded.digest, sharded.datasets)
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
        expected = metadata.count if metadata.head is None else 1  # the assignment to shards
        if entries != expected:
            raise ValueError(f"{entries} records where its metadata says {expected}")
    except (ValueError, lmdb.Error) as error:
        environment.close()
        raise _broken(path, str(error)) from error
    return metadata


def _broken(path: Path, reason: str) -> InputError:
    return InputError(f"{path}: not a usable store: {reason}; remove it and run the lmdb stage again")
