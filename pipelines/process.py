"""Child processes in groups of their own, and the flag that stops them."""

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

import psutil

from components.core.errors import InputError
from components.core.process import handle_ending
from pipelines.output import LineSplitter

# DVC ignores SIGINT and waits for its command; killed by SIGTERM alone it leaves the command behind. A
# launcher of several processes gives them 120 seconds for a checkpoint (components.training.distributed).
STOP_SEQUENCE: tuple[tuple[signal.Signals, float], ...] = (
    (signal.SIGINT, 130.0),
    (signal.SIGTERM, 10.0),
    (signal.SIGKILL, 10.0),
)
_POLL_SECONDS = 0.2
_DRAIN_SECONDS = 2.0
_KILL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child ended: its return code, and why it was stopped if it was."""

    returncode: int
    stopped_by: Literal["cancel", "deadline"] | None


class GroupStopper:
    """Walks through the stop sequence as time passes, without blocking."""

    def __init__(self, group: int, sequence: Sequence[tuple[signal.Signals, float]] = STOP_SEQUENCE) -> None:
        self._group = group
        self._left = list(sequence)
        self._sent = 0
        self._next_at = 0.0

    def is_over(self) -> bool:
        """Return whether the last signal has been sent and has had its time."""
        return not self._left and time.monotonic() >= self._next_at

    def step(self, requests: int = 1) -> None:
        """Send the next signal if the previous one has had its time, or if so many were asked for."""
        if self._left and (time.monotonic() >= self._next_at or self._sent < requests):
            number, patience = self._left.pop(0)
            self._sent += 1
            self._next_at = time.monotonic() + patience
            if number == signal.SIGKILL:
                kill_tree(self._group)
            else:
                signal_group(self._group, number)


def signal_group(group: int, number: int) -> None:
    """Signal every process of the group, if there is one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def group_processes(group: int) -> list[psutil.Process]:
    """Return the group's processes, without the dead that nobody reaped (containers may have no reaper)."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return []
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def kill_tree(group: int) -> None:
    """Kill the group and what its processes have started, which may have left it, as torchrun's have."""
    family: list[psutil.Process] = []
    for process in group_processes(group):
        with contextlib.suppress(psutil.Error):
            family += process.children(recursive=True)
    signal_group(group, signal.SIGKILL)
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill()


def stop_group(group: int) -> None:
    """Stop a group, waiting until no process of it is left."""
    stopper = GroupStopper(group)
    while group_processes(group) and not stopper.is_over():
        stopper.step()
        time.sleep(_POLL_SECONDS)


def run_child(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    on_start: Callable[[int], None],
    on_line: Callable[[str], object],
    cancelled: Callable[[], int],
    timeout_seconds: float | None = None,
    stop_sequence: Sequence[tuple[signal.Signals, float]] = STOP_SEQUENCE,
    keep_open: Sequence[int] = (),
) -> ChildEnd:
    """Run ``command`` to its end, handing out each line it prints.

    Args:
        command: program and arguments; stdout and stderr are read as one stream.
        environment: complete environment of the child.
        folder: its working directory.
        on_start: called with the process group's id.
        on_line: called with each line.
        cancelled: asked several times a second; how often somebody has asked to stop it. Once stops the
            whole group, each further time goes on to the next signal at once.
        timeout_seconds: deadline from now.
        stop_sequence: signals to stop it with, and how many seconds each one has.
        keep_open: file descriptors that the child inherits.

    When this returns or raises, no process of the group is left.
    """
    process = subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=dict(environment),
        cwd=folder,
        pass_fds=keep_open,
    )
    try:
        on_start(process.pid)
        reason = _follow(process, on_line, cancelled, timeout_seconds, stop_sequence)
        return ChildEnd(process.wait(), reason)
    finally:
        _kill_rest(process.pid)
        process.wait()
        if process.stdout:
            process.stdout.close()


def _follow(
    process: subprocess.Popen[bytes],
    on_line: Callable[[str], object],
    cancelled: Callable[[], int],
    timeout_seconds: float | None,
    stop_sequence: Sequence[tuple[signal.Signals, float]],
) -> Literal["cancel", "deadline"] | None:
    """Read the child to its end, or stop its group; returns why it was stopped."""
    splitter = LineSplitter()
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    reason: Literal["cancel", "deadline"] | None = None
    stopper: GroupStopper | None = None
    with _Stream(process) as stream:
        while True:
            for line in splitter.feed(stream.read(_POLL_SECONDS)):
                on_line(line)
            if stopper:
                stopper.step(cancelled())
            elif cancelled():
                reason, stopper = "cancel", GroupStopper(process.pid, stop_sequence)
            elif deadline is not None and time.monotonic() >= deadline:
                reason, stopper = "deadline", GroupStopper(process.pid, stop_sequence)
            if stream.is_over() and (not stopper or stopper.is_over() or not group_processes(process.pid)):
                break
    for line in splitter.close():
        on_line(line)
    return reason


class _Stream:
    """What a child prints; over when the child is, even if somebody it started holds the pipe open."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._process = process
        self._pipe = process.stdout.fileno()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)
        self._open = True
        self._ended_at: float | None = None

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()

    def read(self, seconds: float) -> bytes:
        """Return what arrives within ``seconds``."""
        if not self._open:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        elif self._selector.select(seconds):
            data = os.read(self._pipe, 65536)
            self._open = bool(data)
            return data
        return b""

    def is_over(self) -> bool:
        if self._process.poll() is None:
            return False
        self._ended_at = self._ended_at or time.monotonic()
        return not self._open or time.monotonic() - self._ended_at > _DRAIN_SECONDS


def _kill_rest(group: int) -> None:
    limit = time.monotonic() + _KILL_SECONDS
    while group_processes(group) and time.monotonic() < limit:
        kill_tree(group)
        time.sleep(0.02)


class Stop(threading.Event):
    """Set once somebody has asked to stop.

    Attributes:
        requests: how often they did; each further Ctrl-C goes on to the next signal of the stop sequence.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0

    def set(self) -> None:
        self.requests = self.requests or 1
        super().set()


@contextlib.contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """Let the ``ENDING`` signals set ``stop`` within it; do nothing outside the main thread.

    Nested in another such context, it starts with what was asked for there: nothing gets lost in between.
    (A KeyboardInterrupt can: raised in a finalizer, say, Python drops it.)
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = handle_ending(_Request(stop))
    if any(isinstance(handler, _Request) and handler.stop.is_set() for handler in before.values()):
        stop.set()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Request:
    """A signal handler that sets ``stop`` and says so the first time."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if not self.stop.is_set():
            self.stop.set()
            with contextlib.suppress(OSError):  # of a terminal or a pipe that is gone
                print(
                    "\nStopping the running stages, which finish what they have begun: mostly seconds, at "
                    "most two minutes. Press Ctrl-C again to force.",
                    flush=True,
                )
        elif number == signal.SIGINT:
            self.stop.requests += 1


@contextlib.contextmanager
def stop_when(asked: Callable[[], bool], stop: Stop, every_seconds: float = 5.0) -> Iterator[None]:
    """Let a thread ask now and then within it, and set ``stop`` at the first True; errors count as False."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(every_seconds):
            with contextlib.suppress(Exception):
                if asked():
                    stop.set()
                    return

    thread = threading.Thread(target=watch, name="cancellation-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=every_seconds)


def git(folder: Path, *arguments: str, may_fail: bool = False, given: str = "", index: str = "") -> str:
    """Return what a command of Git prints, run in ``folder``.

    Args:
        folder: of a repository; variables of another one, as hooks of Git have them, are left out.
        arguments: the command.
        may_fail: return what was printed, often nothing, of a command that fails.
        given: its standard input.
        index: the index file to use instead of the repository's.

    Raises:
        InputError: in the words of Git.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_INDEX_FILE": index} if index else {}
    command = ["git", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, input=given, capture_output=True, text=True, check=False
    )
    if done.returncode and not may_fail:
        raise InputError(f"`{' '.join(command)}` in {folder}: {done.stderr.strip()}")
    return done.stdout


def git_files(folder: Path, *options: str) -> set[str]:
    """Return the files that ``git ls-files`` lists."""
    return {name for name in git(folder, "ls-files", "-z", *options).split("\0") if name}
