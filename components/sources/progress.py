"""How far a long copy is: a bar on a terminal, a line every so often anywhere else."""

import sys
import threading
import time
from datetime import timedelta
from types import TracebackType
from typing import TextIO

from tqdm import tqdm

LINE_EVERY_SECONDS = 10.0


class Progress:
    """Context that counts bytes or files; ``advance`` may be called from several threads.

    Args:
        name: what is copied.
        total: how much there is in all, or None where nobody knows.
        done: how much was there before.
        unit: ``B`` for bytes, or a word such as ``images``.
        stream: standard error by default.
    """

    def __init__(
        self, name: str, total: int | None, done: int = 0, unit: str = "B", stream: TextIO | None = None
    ) -> None:
        self._name = name
        self._total = total
        self._before = self._done = done
        self._unit = unit
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()
        self._start = self._last_line = time.monotonic()
        self._bar: tqdm | None = None

    def __enter__(self) -> "Progress":
        self._start = self._last_line = time.monotonic()
        if self._stream.isatty():
            self._bar = tqdm(
                desc=self._name, total=self._total, initial=self._done, file=self._stream,
                unit=self._unit if self._unit == "B" else f" {self._unit}", unit_scale=self._unit == "B",
                dynamic_ncols=True,
            )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._done > self._before and kind is None:
            self._write_line()

    def advance(self, amount: int) -> None:
        """Note that so much more is done; negative where something has to be done again."""
        with self._lock:
            self._done += amount
            if self._bar is not None:
                self._bar.update(amount)
            elif time.monotonic() - self._last_line >= LINE_EVERY_SECONDS:
                self._write_line()

    def _write_line(self) -> None:
        self._last_line = time.monotonic()
        rate = (self._done - self._before) / max(self._last_line - self._start, 1e-3)
        of_all = f" of {self._shown(self._total)}" if self._total else ""
        left = ""
        if self._total and self._done < self._total and rate > 0:
            left = f", {timedelta(seconds=round((self._total - self._done) / rate))} left"
        print(
            f"{self._name}: {self._shown(self._done)}{of_all}, {self._shown(rate)}/s{left}",
            file=self._stream, flush=True,
        )  # fmt: skip

    def _shown(self, amount: float) -> str:
        return shown_bytes(amount) if self._unit == "B" else f"{amount:,.0f} {self._unit}"


def shown_bytes(amount: float) -> str:
    """Return bytes as people read them: ``1.2 GB``, with steps of 1,000."""
    for unit in ("B", "kB", "MB"):
        if abs(amount) < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
