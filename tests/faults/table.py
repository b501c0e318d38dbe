"""All faults in one table: how each is caused, and how a start may end.

A start on something damaged gives the same result or is refused with one clear error; after a start that was
disturbed, the next one gives the same result. Whole runs are in tests.faults.runs.
"""

import errno
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.components.sources.download.test_extract import EVIL
from tests.faults import made, network, runs, subjects
from tests.faults.causes import At, Cut, Flip, Write, Zeros, become_folder, remove
from tests.faults.judge import End, trial
from tests.faults.subjects import Subject

Trial = Callable[[], Sequence[End]]

SAME = (("same",),)
SAME_OR_REFUSED = (("same", "refused"),)
REFUSED = (("refused",),)
READ_OR_REFUSED = (("same", "wrong", "refused"),)  # what a user may have meant so
KILLED_THEN_SAME = (("killed",), ("same",))
REFUSED_THEN_SAME = (("same", "refused"), ("same",))  # ``same``: of what is only kept for speed


@dataclass(frozen=True)
class Fault:
    """A row.

    Attributes:
        kind: of the fault.
        name: of this one; unique with the kind.
        allowed: the states of each start's end, see judge.End.
        trial: causes it, starts, and says how each start ended.
    """

    kind: str
    name: str
    allowed: Sequence[Sequence[str]]
    trial: Trial


def table() -> list[Fault]:
    return [
        *cuts(),
        *flips(),
        *hostile(),
        *damaged_params(),
        *inputs(),
        *disturbed(),
        *downloads(),
        *whole_runs(),
    ]


def _row(
    kind: str,
    name: str,
    allowed: Sequence[Sequence[str]],
    subject: Subject,
    cause: Callable[[Path], None],
) -> Fault:
    again = functools.partial(trial, subject, cause, len(allowed) > 1)
    return Fault(kind, f"{subject.name}: {name}", allowed, again)


def _shares(count: int) -> list[float]:
    return [round(number / count, 4) for number in range(count)]


def cuts() -> Iterator[Fault]:
    """Every kind of file, ended early or zeros from there."""
    exact = [*subjects.ARCHIVES, subjects.SHARD, made.STORE, made.TOKENIZER, made.PART]
    for subject in [*subjects.OWN_TABLES, *exact, made.CHECKPOINT]:
        for share in _shares(16):
            yield _row("file cut", f"after {share:.1%}", SAME_OR_REFUSED, subject, Cut(share))
    for subject in exact:
        for share in _shares(8):
            yield _row("file cut", f"zeros after {share:.1%}", SAME_OR_REFUSED, subject, Zeros(share))
    for share in _shares(12):
        yield _row("file cut", f"after {share:.1%}", SAME, made.FEATURES, Cut(share))
    for share in (0.0, 0.00001, 0.5, 0.9999):
        yield _row("file cut", f"after {share:.3%}", SAME_OR_REFUSED, made.BACKBONE, Cut(share))


def flips() -> Iterator[Fault]:
    """Every kind of file that has a checksum of its own, with one bit changed."""
    for subject in (made.CHECKPOINT, *subjects.ARCHIVES[:1], *subjects.ARCHIVES[2:]):
        for share in _shares(24):
            yield _row("bit flipped", f"at {share:.1%}", SAME_OR_REFUSED, subject, Flip(share, bit=3))
    for share in _shares(24):
        yield _row("bit flipped", f"at {share:.1%}", SAME, made.FEATURES, Flip(share))
    for share in (0.00001, 0.0001, 0.3, 0.99):
        yield _row("bit flipped", f"at {share:.3%}", SAME_OR_REFUSED, made.BACKBONE, Flip(share))


def hostile() -> Iterator[Fault]:
    """What strangers send: archives, and other things in the place of a file."""
    for name, (make, _) in EVIL.items():
        yield _row("hostile archive", name, REFUSED, subjects.ARCHIVES[0], functools.partial(_made, make))
    things: dict[str, Callable[[Path], None]] = {
        "empty": Write(b""),
        "no text": Write(bytes(range(256)) * 8),
        "a page": Write(b"<html>please log in</html>"),
        "deep": Write(b"[" * 100_000),
        "deep objects": Write(b'{"a":' * 100_000),
        "a folder": become_folder,
        "missing": remove,
    }
    readers = [*subjects.OWN_TABLES, subjects.SHARD, made.STORE, made.TOKENIZER, made.BACKBONE]
    for subject in [*readers, made.PART, made.PARAMS, made.PRESET, *subjects.ARCHIVES[:1]]:
        for name, cause in things.items():
            yield _row("other content", name, REFUSED, subject, cause)


def _made(make: Callable[[Path], Path], path: Path) -> None:
    path.unlink()
    make(path)


def damaged_params() -> Iterator[Fault]:
    """params.yaml and a preset: cut, flipped; what is still valid may have been meant."""
    for subject in (made.PARAMS, made.PRESET):
        for share in _shares(20):
            yield _row("params damaged", f"cut after {share:.1%}", READ_OR_REFUSED, subject, Cut(share))
            yield _row("params damaged", f"flip at {share:.1%}", READ_OR_REFUSED, subject, Flip(share, bit=1))


def inputs() -> Iterator[Fault]:
    """What a stage would read from other stages, damaged after DVC has linked it."""
    for subject in made.LINKED:
        for share in _shares(8):
            for cause in (Cut(share), Flip(share), Zeros(share)):
                name = f"{type(cause).__name__} at {share:.1%}"
                yield _row("input damaged", name, SAME_OR_REFUSED, subject, cause)


def disturbed() -> Iterator[Fault]:
    """Whatever is written: stopped, cut off from power or refused by the disk at each operation."""
    for subject, operations in made.WRITERS:
        for number in range(1, operations + 1):
            yield _row("killed", f"at {number}", KILLED_THEN_SAME, subject, At(number, "kill"))
            yield _row("power cut", f"at {number}", KILLED_THEN_SAME, subject, At(number, "power cut"))
            for error in (errno.ENOSPC, errno.EROFS if number % 2 else errno.EIO):
                name = f"{errno.errorcode[error]} at {number}"
                yield _row("disk", name, REFUSED_THEN_SAME, subject, At(number, error))


def downloads() -> Iterator[Fault]:
    """A server that fails once, twice, always, when it is looked at, and at each file operation of ours."""
    for name, way in network.WAYS.items():
        for count, but_look in ((1, True), (2, True), (99, True), (1, False), (99, False)):
            when = f"{count} times{'' if but_look else ', at the first look too'}"
            cause = functools.partial(network.misbehave, way, count, but_look)
            yield _row("network", f"{name}, {when}", SAME_OR_REFUSED, network.DOWNLOAD, cause)
    for number in range(1, network.OPERATIONS + 1):
        for how in ("kill", "power cut"):
            yield _row("network", f"{how} at {number}", KILLED_THEN_SAME, network.DOWNLOAD, At(number, how))


def whole_runs() -> Iterator[Fault]:
    for kind, name, allowed, again in runs.rows():
        yield Fault(kind, name, allowed, again)
