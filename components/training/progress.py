"""How far training is: a bar on a terminal, a line every so often anywhere else."""

import sys
import time
from datetime import timedelta
from types import TracebackType
from typing import TextIO

from tqdm import tqdm

LINE_EVERY_SECONDS = 10.0


class Progress:
    """Context that shows iterations, images/s, the time left and the latest figures.

    Args:
        num_iterations: of the whole run.
        start_iteration: iterations done before.
        stream: standard error by default.
        is_shown: False says nothing at all.
    """

    def __init__(
        self, num_iterations: int, start_iteration: int, stream: TextIO | None = None, is_shown: bool = True
    ) -> None:
        self._num_iterations = num_iterations
        self._start_iteration = self._iteration = self._last_iteration = start_iteration
        self._stream = stream or sys.stderr
        self._is_shown = is_shown
        self._figures = ""
        self._num_images = 0
        self._start = self._last_line = time.monotonic()
        self._bar: tqdm | None = None

    def __enter__(self) -> "Progress":
        self._start = self._last_line = time.monotonic()
        if self._is_shown and self._stream.isatty():
            self._bar = tqdm(
                total=self._num_iterations,
                initial=self._start_iteration,
                file=self._stream,
                bar_format="{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} iterations{postfix}",
                dynamic_ncols=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._iteration > self._last_iteration:
            self._write_line()

    def advance(self, num_images: int) -> None:
        """One iteration more is done."""
        self._iteration += 1
        self._num_images += num_images
        if self._bar is not None:
            self._bar.set_postfix_str(self._rates(), refresh=False)
            self._bar.update()
        elif time.monotonic() - self._last_line >= LINE_EVERY_SECONDS:
            self._write_line()

    def show(self, figures: dict[str, float]) -> None:
        """Figures to show from now on."""
        self._figures = "".join(f", {name} {value:.4g}" for name, value in figures.items())

    def _rates(self) -> str:
        seconds = max(time.monotonic() - self._start, 1e-9)
        iterations_per_second = (self._iteration - self._start_iteration) / seconds
        left = (self._num_iterations - self._iteration) / max(iterations_per_second, 1e-9)
        images_per_second = self._num_images / seconds
        return f"{images_per_second:.1f} images/s, {timedelta(seconds=round(left))} left{self._figures}"

    def _write_line(self) -> None:
        if not self._is_shown:
            return
        self._last_line = time.monotonic()
        self._last_iteration = self._iteration
        share = self._iteration / self._num_iterations
        line = f"iteration {self._iteration}/{self._num_iterations} ({share:.0%}), {self._rates()}"
        print(line, file=self._stream, flush=True)
