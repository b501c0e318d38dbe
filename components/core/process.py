"""What concerns a process of ours as such: the signals that end it, its marks, its proxies, its memory.

Nothing here imports a library before it is used: every command and stage begins with it.
"""

import atexit
import ctypes
import gc
import os
import signal
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

Handler = Callable[[int, FrameType | None], Any]


def handle_ending(handler: Handler) -> dict[signal.Signals, Any]:
    """Let ``handler`` see all of them; returns the handlers before it.

    A hangup that is ignored, as ``nohup`` has it, stays so. After one, what would be printed to the terminal
    that is gone goes nowhere, so that nothing fails for it.
    """

    def handle(number: int, frame: FrameType | None) -> Any:
        if number == signal.SIGHUP:
            _leave_terminal()
        return handler(number, frame)

    chosen = [n for n in ENDING if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    return {
        number: signal.signal(number, handle if number == signal.SIGHUP else handler) for number in chosen
    }


def end_at_once() -> None:
    """Let Ctrl-C end a program of ours without output while it imports, until ``raise_interrupts``.

    Without effect for any other program that imports the package which calls this.
    """
    is_ours = sys.argv[0] == "-m" or os.path.basename(sys.argv[0]) == "virtex"  # as `python -m` has it
    if is_ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it may be ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_interrupts() -> None:
    """Let Ctrl-C raise KeyboardInterrupt, as in any Python, where ``end_at_once`` has changed that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def ignore_ending() -> None:
    """Let none of them keep this process from coming to its end."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def _leave_terminal() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):  # one that is gone is no terminal to isatty
                os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def process_mark(pid: int) -> str:
    """Return a process's number and start time; only the number if it is gone. Numbers are used again."""
    import psutil

    try:
        return f"{pid} {psutil.Process(pid).create_time():.0f}"
    except psutil.NoSuchProcess:
        return str(pid)


def is_alive(mark: str) -> bool:
    """Return whether the process that ``process_mark`` described is still running."""
    import psutil

    pid, _, started = mark.partition(" ")
    try:
        return (
            bool(started)
            and pid.isdecimal()
            and process_mark(int(pid)) == mark
            and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False


_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def bypass_proxies_for_loopback() -> None:
    """Ask servers of this machine directly, whatever proxy the environment names for all others.

    Add the loopback addresses to ``NO_PROXY`` and ``no_proxy``, for this process and its children. Both
    spellings get what either says: libraries differ in which one they read.
    """
    written = f"{os.environ.get('NO_PROXY', '')},{os.environ.get('no_proxy', '')}".split(",")
    names = list(dict.fromkeys(name.strip() for name in (*written, *_LOOPBACK) if name.strip()))
    if "*" not in names:  # no proxy for anything, which only stands alone
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(names)


_NEW_OBJECTS = 50_000  # between two collections of the youngest; Python's own is 700


def collect_rarely() -> None:
    """Collect garbage less often, in a process that imports much and lives shortly.

    Python looks through the objects that there are again and again while modules are imported, and twice at
    the end: a third of the processor time of a process that imports torch and MLflow.
    """
    gc.set_threshold(_NEW_OBJECTS, 10, 10)
    atexit.register(gc.freeze)  # nothing to look through while the interpreter ends


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # options of mallopt, see <malloc.h>
_KEPT_BYTES = 256 * 2**20
_LARGEST_BLOCK = 32 * 2**20  # glibc takes no more


def keep_freed_memory() -> None:
    """Keep up to 256 MiB of freed memory, for work that needs as much again at once.

    glibc gives large blocks back to the system as soon as they are free, and the system hands them out page
    by page, filled with zeros: a good part of the time where every image takes a new block. Without effect
    where there is no glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)
