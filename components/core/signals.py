"""The signals that end a command: Ctrl-C, a polite kill, a closed terminal, Ctrl-\\."""

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
