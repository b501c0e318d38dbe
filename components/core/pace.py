"""Bounds of what comes over the network: how much, how fast, and how long until it begins."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SLOWEST_BYTES_PER_SECOND = 1000  # a twentieth of a modem's; a server below it for a minute is given up
WINDOW_SECONDS = 60.0


class PaceError(OSError):
    """More came than may, or too little; says so for a person."""


class Pace:
    """Counts the bytes of one answer as they come.

    Args:
        most_bytes: no more than this may come; None is no bound.
        window_seconds: in each span of this length ``SLOWEST_BYTES_PER_SECOND`` must come on average.
    """

    def __init__(self, most_bytes: int | None = None, window_seconds: float = WINDOW_SECONDS) -> None:
        self._most_bytes = most_bytes
        self._window_seconds = window_seconds
        self._total = 0
        self._since = time.monotonic()
        self._in_window = 0

    def came(self, num_bytes: int) -> None:
        """Note that so many bytes have come.

        Raises:
            PaceError: they are too many, or came too slowly.
        """
        self._total += num_bytes
        self._in_window += num_bytes
        if self._most_bytes is not None and self._total > self._most_bytes:
            raise PaceError(f"sends more than {self._most_bytes:,} bytes")
        seconds = time.monotonic() - self._since
        if seconds < self._window_seconds:
            return
        if self._in_window < SLOWEST_BYTES_PER_SECOND * seconds:
            raise PaceError(f"too slow: {self._in_window:,} bytes in {seconds:.0f} seconds")
        self._since, self._in_window = time.monotonic(), 0


def begun_within(seconds: float, ask: Callable[[], T]) -> T:
    """Return what ``ask`` returns, or raises, within ``seconds``; afterwards nobody waits for it any more.

    For requests: their own time limits begin anew with every byte, and headers may come one by one.

    Raises:
        PaceError: it took longer.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(ask())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="request", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise PaceError(f"no answer within {seconds:.0f} seconds")
    return results[0]
