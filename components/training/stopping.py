"""A polite end: the signals that end a command ask training to stop after the iteration in progress."""

import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from types import FrameType, TracebackType
from typing import Any, TypeVar

from components.core.process import ENDING
from components.training.distributed import SINGLE_PROCESS, Processes

T = TypeVar("T")


class Stopped(Exception):
    """Somebody asked to stop, and nothing is half done."""


class StopRequest:
    """Context in which these signals only set ``signal_number``; the loop looks at it and stops.

    Once asked, the death of a data-loading worker, which may have got the signal as well, no
    longer interrupts the iteration in progress. Outside the main thread nothing is installed.
    Processes that train together stop together, whichever of them was asked.
    """

    def __init__(self, processes: Processes = SINGLE_PROCESS) -> None:
        self.signal_number: int | None = None
        self._processes = processes
        self._previous: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self.signal_number is not None

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def watch(self, batches: Iterable[T]) -> Iterator[T]:
        """Pass batches on until somebody asks to stop; other processes may have more or fewer of them.

        Raises:
            Stopped: instead of the next batch, once any process is asked to stop; also when the
                loader fails then, because its workers got the signal too.
        """
        iterator = iter(batches)
        while True:
            following = self._next(iterator)
            is_asked, are_there_more = self._processes.all_reduce_any(bool(self), bool(following))
            if is_asked:
                raise Stopped
            if not are_there_more:
                return
            yield from following

    def _next(self, iterator: Iterator[T]) -> list[T]:
        """Return the next batch; nothing at the end, and nothing once asked to stop."""
        if self:
            return []
        try:
            return list(islice(iterator, 1))
        except RuntimeError:
            if self:
                return []
            raise

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_number is None:
            self.signal_number = number
            self._previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _ignore)
            if self._processes.is_first:
                name = signal.Signals(number).name
                print(f"\n{name}: stopping after this iteration", file=sys.stderr, flush=True)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass
