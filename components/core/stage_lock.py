"""One process per stage: a lock on it, held by the stage itself as long as it lives.

Whoever kills DVC alone leaves its stage at work. The next one of the same name would train beside it in the
same scratch folder, until one deletes the other's checkpoints. So it stops what no DVC waits for any more,
and waits for what somebody does.
"""

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import psutil

from components.core import machine, paths
from components.core.files import read_json
from components.core.process import is_alive, process_mark

FOLDER = paths.SCRATCH_DIR / "locks"
_HELD_VARIABLE = "VIRTEX_STAGE_LOCKED"  # for the processes that the holder starts
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 130.0  # to write a checkpoint of some gigabytes; launchers give 120

WAITED = "virtex: seconds of waiting for a lock: "  # begins a line, for whoever counts the work
_WORTH_SAYING_SECONDS = 0.1


@contextlib.contextmanager
def stage_lock(stage: str, item: str | None) -> Iterator[float]:
    """Hold the lock of a stage; of several processes together the first one does.

    Waits for another holder, and says so. One whose DVC is gone is stopped first, as by Ctrl-C. Yields the
    seconds of that, which are no work of the stage; a line with them is for the process that started it.
    """
    if os.environ.get(_HELD_VARIABLE) or not machine.is_first_process():
        yield 0.0
        return
    name = f"{stage}@{item}" if item else stage
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / f"{name}.lock", "a+", encoding="utf-8") as file:
        waited = _take(file, name)
        say_waited(waited)
        file.truncate(0)
        dvc = dvc_above("dvc", "pipelines.dvc_internals")
        note = {"process": process_mark(os.getpid()), "dvc": process_mark(dvc.pid) if dvc else ""}
        file.write(json.dumps(note))
        file.flush()
        os.environ[_HELD_VARIABLE] = name
        try:
            yield waited
        finally:
            del os.environ[_HELD_VARIABLE]
            file.truncate(0)


def say_waited(seconds: float) -> None:
    """Print the line that StageOutput counts, unless it is hardly any time."""
    if seconds >= _WORTH_SAYING_SECONDS:
        with contextlib.suppress(OSError):
            print(f"{WAITED}{seconds:.3f}", flush=True)


def _take(file: TextIO, name: str) -> float:
    said, started = None, time.monotonic()
    while not _is_free(file):
        process, dvc = _holder(file)
        number = process.partition(" ")[0] or "(unknown)"
        if dvc and is_alive(process) and not is_alive(dvc):
            print(f"{name}: stopping orphaned process {number}, whose DVC has exited", flush=True)
            _stop(int(number))
        elif process != said:
            print(f"{name}: waiting for process {number}, which runs the same stage", flush=True)
            said = process
        time.sleep(_POLL_SECONDS)
    return time.monotonic() - started


def _is_free(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: TextIO) -> tuple[str, str]:
    """Return the marks of the process that holds the lock, and of its DVC; empty where unknown or none."""
    try:
        note = read_json(Path(file.name))
        return f"{note['process']}", f"{note['dvc']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has the lock and not yet written
        return "", ""


def dvc_above(*names: str) -> psutil.Process | None:
    """Return the process above this one that runs a program of one of these names; None if none does."""
    for process in psutil.Process().parents():
        with contextlib.suppress(psutil.Error):
            if any(Path(part).name in names for part in process.cmdline()[:3]):
                return process
    return None


def _stop(pid: int) -> None:
    """Ask it to end, with the time that it needs; then end it with all that it has started."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        family = process.children(recursive=True)
        process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs([process], timeout=_GRACE_SECONDS)
        for left in [*alive, *(family if alive else [])]:
            with contextlib.suppress(psutil.Error):
                left.kill()
        psutil.wait_procs(alive, timeout=_POLL_SECONDS)
