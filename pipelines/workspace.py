"""One run at a time in a workspace, and no orphan of a crashed run."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import psutil

from components.core.errors import InputError
from components.core.files import parse_json, read_json, write_json, write_text
from components.core.process import is_alive, process_mark
from pipelines.process import group_processes, stop_group

STATE_DIR = Path(".virtex")
STAGE_VARIABLE = "VIRTEX_STAGE"
_held: dict[Path, TextIO] = {}  # locks of this process
# Of the last holder of the lock that crashed, until its traces are cleared up.
_CRASHED = STATE_DIR / "crashed.json"


def state_dir(root: Path) -> Path:
    """Return the folder of a workspace's own notes, with links followed; it is made if need be.

    Raises:
        InputError: something else has its place.
    """
    folder = Path(os.path.realpath(root / STATE_DIR))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{root / STATE_DIR}: cannot be the folder of this workspace's notes ({error.strerror}); remove "
            "it, and it is made anew"
        ) from None
    return folder


@contextlib.contextmanager
def run_lock(root: Path, flow_run: str | None = None) -> Iterator[None]:
    """Hold the workspace. A flow, which has an id, takes part in the hold of the command that called it.

    Args:
        root: the repository.
        flow_run: id of Prefect's flow run that holds it, if any.

    Raises:
        InputError: if another run holds it.
    """
    path = state_dir(root) / "run.lock"
    if flow_run and path in _held:
        _write_holder(_held[path], flow_run)
        yield
        return
    with file_lock(path, _refusal) as stream:
        stream.seek(0)
        former = stream.read()
        if former:  # whoever comes to its end leaves nothing here
            write_text(root / _CRASHED, former)
        _write_holder(stream, flow_run)
        _held[path] = stream
        try:
            yield
        finally:
            del _held[path]
            stream.truncate(0)


def clear_holder() -> None:
    """Forget who holds it, before this process ends itself: whoever is next does not take it for crashed."""
    for stream in _held.values():
        stream.truncate(0)


@contextlib.contextmanager
def file_lock(path: Path, refusal: Callable[[str], str]) -> Iterator[TextIO]:
    """Hold a lock file; yields it, open for reading and writing. A process that is gone holds nothing.

    Raises:
        InputError: another process holds it; ``refusal`` makes the message of what that has written there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise InputError(refusal(stream.read())) from None
        yield stream


def _write_holder(stream: TextIO, flow_run: str | None) -> None:
    note = {"pid": os.getpid(), "started": time.strftime("%Y-%m-%d %H:%M:%S"), "flow_run": flow_run}
    stream.truncate(0)
    stream.write(json.dumps(note))
    stream.flush()


@contextlib.contextmanager
def crashed_before(root: Path) -> Iterator[dict[str, Any] | None]:
    """Give, and then forget, the note of a former holder of the lock that crashed; None if there was none."""
    path = root / _CRASHED
    if not path.is_file():
        yield None
        return
    try:
        note = read_json(path)
    except ValueError:
        note = {}
    yield note if isinstance(note, dict) else {}
    path.unlink(missing_ok=True)


def _refusal(holder: str) -> str:
    try:
        known = parse_json(holder)
        who = f"process {known['pid']}, started {known['started']}"
        how = f" or stop it with `kill -INT {known['pid']}`"
    except (ValueError, KeyError, TypeError):
        who, how = "unknown process", ""
    return f"another run is at work in this workspace ({who}): wait for it{how}"


def stages_at_work(root: Path) -> list[str]:
    """Return the stages of this workspace that a run has started and whose processes live."""
    return [stage for stage, group, leader in _notes(root) if _is_ours(group, leader, stage)]


def noted_stages(root: Path) -> list[str]:
    """Return the stages that a run has started and not seen the end of, with live processes or without."""
    return [stage for stage, _, _ in _notes(root)]


@contextlib.contextmanager
def noted_group(root: Path, stage: str) -> Iterator[Callable[[int], None]]:
    """Give what notes a stage's process group, so that the next run finds it if this one crashes."""
    notes: list[Path] = []

    def note_here(group: int) -> None:
        notes.append(note_group(root, stage, group))

    try:
        yield note_here
    finally:
        for note in notes:
            note.unlink(missing_ok=True)


def note_group(root: Path, stage: str, group: int) -> Path:
    """Note a stage's process group; return the note."""
    path = root / STATE_DIR / "stages" / f"{stage.replace('/', '_')}.json"
    write_json(path, {"stage": stage, "group": group, "leader": process_mark(group)})
    return path


def note_servers(root: Path, marks: Sequence[str]) -> None:
    """Note servers that we have started, by their marks: killed outright, we would leave them behind."""
    write_json(root / STATE_DIR / "servers.json", list(marks))


def _end_servers(root: Path) -> None:
    path = root / STATE_DIR / "servers.json"
    try:
        marks = [str(mark) for mark in read_json(path)]
    except (OSError, ValueError, TypeError):
        return
    for mark in filter(is_alive, marks):
        with contextlib.suppress(psutil.Error):
            server = psutil.Process(int(mark.split()[0]))
            if server.ppid() == os.getpid():
                return
            server.terminate()
    path.unlink()


def stop_orphans(root: Path) -> list[str]:
    """Stop stage processes that outlived the run that started them; returns their stages' names.

    To be called with the run lock held.
    """
    _end_servers(root)
    ended = []
    for path in sorted((root / STATE_DIR / "stages").glob("*.json")):
        note = _read_note(path)
        if note:
            stage, group, leader = note
            if _is_ours(group, leader, stage):
                stop_group(group)
                ended.append(stage)
        path.unlink(missing_ok=True)
    return ended


def _notes(root: Path) -> list[tuple[str, int, str]]:
    paths = sorted((root / STATE_DIR / "stages").glob("*.json"))
    return [note for note in map(_read_note, paths) if note]


def _read_note(path: Path) -> tuple[str, int, str] | None:
    """Return stage, process group and its leader's mark; None if that cannot be read."""
    try:
        note = read_json(path)
        return str(note["stage"]), int(note["group"]), str(note["leader"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_ours(group: int, leader: str, stage: str) -> bool:
    """Tell whether the group still has a process, and it is the stage's: ids are given out again."""
    if psutil.pid_exists(group) and process_mark(group) != leader:
        return False
    for process in group_processes(group):
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(STAGE_VARIABLE) == stage:
                return True
    return False
