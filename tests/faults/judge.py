"""What became of a start: each in a process of its own, held against one that nothing disturbed."""

import atexit
import contextlib
import functools
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.command import ended
from tests.faults.causes import KILLED, Operations
from tests.faults.subjects import Subject

PATIENCE = 120.0  # seconds, of a start
_RESULT, _WORDS = "result.json", "words.txt"


@dataclass(frozen=True)
class End:
    """How a start ended.

    Attributes:
        state: ``same`` result as the undisturbed one, ``wrong`` (another), ``refused`` with one clear error,
            ``unclear`` (an error that does not name the file), ``traceback``, ``killed`` by the cause,
            ``crashed`` or ``hung``.
        words: what it said.
    """

    state: str
    words: str = ""


def trial(subject: Subject, cause: Callable[[Path], None], then: bool) -> list[End]:
    """Cause a fault and start; with ``then`` start once more, undisturbed."""
    with _workspace(subject) as work:
        ends = [_start(subject, work, cause)]
        if then:
            ends.append(_start(subject, work, None))
        return ends


@functools.cache
def room() -> str:
    """Folder for all that faults are tried on, until this process ends."""
    folder = tempfile.TemporaryDirectory(prefix="virtex-faults-", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    return folder.name


@functools.cache
def undisturbed(subject: Subject) -> tuple[Any, int]:
    """Result of an undisturbed start, and its file operations."""
    with _workspace(subject) as work:
        status, words, found = _in_child(subject, work, lambda _: None, True)
        assert status == 0, f"{subject.name}: an undisturbed start fails: {words}"
        return found["result"], found["operations"]


@functools.cache
def _prepared(subject: Subject) -> Path:
    folder = Path(tempfile.mkdtemp(dir=room()))
    status = _wait(_fork(functools.partial(_prepare, subject, folder)), PATIENCE)
    assert status == 0, f"{subject.name} cannot be prepared"
    return folder


def _prepare(subject: Subject, folder: Path) -> int:
    os.chdir(folder)
    subject.prepare()
    return 0


@contextlib.contextmanager
def _workspace(subject: Subject) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=room(), ignore_cleanup_errors=True) as folder:
        work = Path(folder) / "work"
        shutil.copytree(_prepared(subject), work, symlinks=True)
        yield work


def _start(subject: Subject, work: Path, cause: Callable[[Path], None] | None) -> End:
    status, words, found = _in_child(subject, work, cause, False)
    if "Traceback (most recent call last)" in words:
        return End("traceback", words)
    if status == 0:
        right, _ = undisturbed(subject)
        state = "same" if subject.is_right(found["result"], right) else "wrong"
        return End(state, words or json.dumps(found["result"])[:300])
    if status == 2:
        return End("refused" if subject.names in words else "unclear", words)
    known = {KILLED: "killed", None: "hung"}
    return End(known.get(status, "crashed"), words or f"status {status}")


def _in_child(
    subject: Subject, work: Path, cause: Callable[[Path], None] | None, counting: bool
) -> tuple[int | None, str, Any]:
    beside = work.parent
    for name in (_RESULT, _WORDS):
        (beside / name).unlink(missing_ok=True)

    def start() -> int:
        os.chdir(work)
        with open(beside / _WORDS, "w", buffering=1) as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        operations = Operations() if counting else None
        if cause is not None and not counting:
            cause(Path(subject.file))
        return ended(functools.partial(use, operations))

    def use(operations: Operations | None) -> int:
        result = subject.use()
        found = {"result": result, "operations": operations.count if operations else 0}
        (beside / _RESULT).write_text(json.dumps(found))
        return 0

    status = _wait(_fork(start), PATIENCE)
    words = (beside / _WORDS).read_text(errors="replace") if (beside / _WORDS).is_file() else ""
    found = json.loads((beside / _RESULT).read_text()) if status == 0 else None
    return status, words, found


def _fork(work: Callable[[], int]) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setpgid(0, 0)
        status = work()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _wait(child: int, seconds: float) -> int | None:
    """Exit status, negative for a signal; None for one that does not end, which is killed."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def verdict(ends: Sequence[End], allowed: Sequence[Sequence[str]]) -> str:
    """One word for the ends of one fault, each of which must be among the ``allowed`` ones of its place."""
    for end, states in zip(ends, allowed, strict=True):
        if end.state in states:
            continue
        if end.state in ("traceback", "unclear"):
            return "traceback"
        return "silently wrong" if end.state == "wrong" else "lost"
    return "survived"
