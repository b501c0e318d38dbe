"""Turns the signals that end a command and a cancellation in Prefect into one flag that the stages watch."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from components.core.process import handle_ending


class Stop(threading.Event):
    """Set once somebody has asked to stop.

    Attributes:
        requests: how often they did; each further Ctrl-C makes the stages' end ruder.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0

    def set(self) -> None:
        self.requests = self.requests or 1
        super().set()


@contextlib.contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """Within it, the ``ENDING`` signals set ``stop``; does nothing outside the main thread.

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
                    "most two minutes. Ctrl-C again insists.",
                    flush=True,
                )
        elif number == signal.SIGINT:
            self.stop.requests += 1


@contextlib.contextmanager
def stop_when(asked: Callable[[], bool], stop: Stop, every_seconds: float = 5.0) -> Iterator[None]:
    """Within it, a thread asks now and then, and sets ``stop`` at the first True; errors count as False."""
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
