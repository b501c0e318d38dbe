"""How a fault is caused: a file damaged before a start, or a start disturbed at a file operation."""

import errno
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KILLED = 137  # exit status of a start that a cause has ended
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FREEING = ("os.remove", "os.rmdir", "os.truncate", "os.rename")
_CHANGES = ("os.rename", "os.link", "os.symlink", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


@dataclass(frozen=True)
class Cut:
    """The file ends after this share of its bytes, as a broken download or a power cut leaves it."""

    share: float

    def __call__(self, path: Path) -> None:
        os.truncate(path, int(path.stat().st_size * self.share))


@dataclass(frozen=True)
class Flip:
    """One bit of the byte at this share of the file is another."""

    share: float
    bit: int = 0

    def __call__(self, path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(len(content) * self.share)] ^= 1 << self.bit
        path.write_bytes(content)


@dataclass(frozen=True)
class Zeros:
    """From this share on the file is zeros, as blocks that never reached the disk."""

    share: float

    def __call__(self, path: Path) -> None:
        content = path.read_bytes()
        kept = int(len(content) * self.share)
        path.write_bytes(content[:kept] + bytes(len(content) - kept))


@dataclass(frozen=True)
class Write:
    """Somebody else's content."""

    content: bytes

    def __call__(self, path: Path) -> None:
        path.write_bytes(self.content)


def remove(path: Path) -> None:
    path.unlink()


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@dataclass(frozen=True)
class At:
    """The start is disturbed at its ``number``-th operation on files below the working directory, from 1.

    An operation opens a file to write, renames, links, removes, makes a folder or flushes.

    Attributes:
        number: of the operation.
        how: ``kill``; ``power cut``, after which what was written and not flushed is half there; or the
            error that the operation ends with. A full disk stays full, a read-only one read-only.
    """

    number: int
    how: str | int

    def __call__(self, _: Path) -> None:
        Operations(self._disturb)

    def _disturb(self, operations: "Operations", path: str, event: str) -> None:
        lasting = self.how == errno.EROFS or (self.how == errno.ENOSPC and event not in _FREEING)
        if operations.count != self.number and not (lasting and operations.count > self.number):
            return
        if isinstance(self.how, int):
            raise OSError(self.how, os.strerror(self.how), path)
        if self.how == "power cut":
            operations.lose()
        os._exit(KILLED)


class Operations:
    """Watches the file operations of this process, for the rest of its life.

    Attributes:
        count: of them, so far.
    """

    def __init__(self, told: Callable[["Operations", str, str], None] = lambda *_: None) -> None:
        self.count = 0
        self._told = told
        self._root = os.path.realpath(os.getcwd())
        self._unflushed: set[str] = set()
        self._fsync = os.fsync
        os.fsync = self._flush
        sys.addaudithook(self._hear)

    def lose(self) -> None:
        """Take half of every file that was written and never flushed."""
        lost, self._unflushed = self._unflushed, set()
        for name in lost:
            if os.path.isfile(name):
                os.truncate(name, os.stat(name).st_size // 2)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes) and (arguments[2] or 0) & _WRITING:
            self._happened(arguments[0], event)
        elif event in _CHANGES:
            self._happened(arguments[0], event)
            if event == "os.rename":
                self._follow(*map(os.fsdecode, arguments[:2]))

    def _happened(self, name: str | bytes | int, event: str) -> None:
        name = os.readlink(f"/proc/self/fd/{name}") if isinstance(name, int) else name
        path = os.path.abspath(os.fsdecode(name))
        if not path.startswith(self._root):
            return
        self.count += 1
        self._told(self, path, event)
        if event == "open":
            self._unflushed.add(path)

    def _follow(self, source: str, target: str) -> None:
        """What has another name now is as little flushed as it was."""
        source, target = os.path.abspath(source), os.path.abspath(target)
        for path in [path for path in self._unflushed if path == source or path.startswith(f"{source}/")]:
            self._unflushed.remove(path)
            self._unflushed.add(target + path.removeprefix(source))

    def _flush(self, descriptor: int) -> None:
        self._happened(descriptor, "fsync")
        self._fsync(descriptor)
        self._unflushed.discard(os.readlink(f"/proc/self/fd/{descriptor}"))
