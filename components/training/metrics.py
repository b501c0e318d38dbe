"""What is known of an iteration: its loss over all tokens, whether it is finite, how far training is."""

import sys
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from types import TracebackType
from typing import TextIO, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from components.core.errors import InputError
from components.objectives.interface import ObjectiveOutput
from components.training.checkpoints import CheckpointFolder
from components.training.distributed import Processes

_Batch = TypeVar("_Batch")


class TokenMean:
    """Makes the parts' mean losses one mean over all tokens of all parts, and their gradients too.

    A mean of the parts' means would favour the tokens of parts that have few. Parts have equally many
    images in all processes.

    Args:
        processes: all of them; the mean of their gradients is what ``backward`` leaves.
        num_parts: of one process.
    """

    def __init__(self, processes: Processes, num_parts: int) -> None:
        self._processes = processes
        self._is_whole = processes.count * num_parts == 1
        self._num_images = 0
        self._names: list[str] = []
        self._sums: list[Tensor] = []

    def add(self, output: ObjectiveOutput, num_images: int) -> Tensor:
        """Take one part; returns what to call ``backward`` on: its summed loss, divided by ``num_images``.

        That keeps the size of a mean, which matters under fp16.
        """
        measured = {"loss": output.loss, **output.parts}
        values = torch.stack([value.detach().double().reshape(()) for value in measured.values()])
        num_tokens = output.num_tokens.double().reshape(1)
        self._names, self._num_images = list(measured), num_images
        self._sums.append(torch.cat([num_tokens, values * num_tokens]))
        return output.loss if self._is_whole else output.loss * (output.num_tokens / num_images)

    def finish(self, gradients: Iterable[Tensor]) -> dict[str, Tensor]:
        """Correct the gradients in place; returns the loss and its parts, means over all tokens."""
        totals = self._processes.all_reduce_sum(torch.stack(self._sums).sum(dim=0))
        num_tokens, sums = totals[0].clamp(min=1), totals[1:]
        if not self._is_whole:
            factor = self._processes.count * self._num_images / num_tokens
            torch._foreach_mul_(list(gradients), factor.float())
        return {name: total / num_tokens for name, total in zip(self._names, sums.unbind(), strict=True)}


class DivergenceCheck:
    """Remembers on the device the first iteration whose loss or gradient was not finite.

    Args:
        device: where the losses are.
        advice: sentence that says what to change.
        gradients_too: also look at gradient norms; off under fp16, where the gradient scaler
            skips steps whose gradients overflow.
    """

    def __init__(self, device: torch.device, advice: str, gradients_too: bool) -> None:
        self._advice = advice
        self._gradients_too = gradients_too
        self._first_bad = torch.zeros((), dtype=torch.int64, device=device)

    def observe(self, iteration: int, loss: Tensor, grad_norm: Tensor) -> None:
        """Look at one iteration, numbered from 1."""
        bad = ~torch.isfinite(loss.detach())
        if self._gradients_too:
            bad = bad | ~torch.isfinite(grad_norm)
        self._first_bad += iteration * (bad & (self._first_bad == 0))

    def check(self, checkpoints: CheckpointFolder) -> None:
        """Wait for the device and see.

        Raises:
            InputError: if an iteration was not finite.
        """
        iteration = int(self._first_bad)
        if iteration == 0:
            return
        newest = checkpoints.paths()
        kept = f"The last good checkpoint is {newest[-1]}" if newest else "There is no checkpoint before it"
        raise InputError(
            f"iteration {iteration}: the loss or its gradient is not finite: training has diverged. {kept}. "
            f"{self._advice} A changed configuration starts from the beginning; an unchanged one goes on "
            "from the checkpoint and will most likely diverge again."
        )


LONG_WAIT = 0.1  # seconds per second


class DataWait:
    """Measures how long training stands still because the next batch is not there yet.

    Args:
        device: where training computes; while a GPU works on what it was given before, nothing stands still.
        advice: sentence that says what to change if that is long.
        is_shown: False warns of nothing.
    """

    def __init__(self, device: torch.device, advice: str, is_shown: bool = True) -> None:
        self._advice = advice
        self._is_shown = is_shown
        self._given = torch.cuda.Event() if device.type == "cuda" else None
        self._waited = 0.0
        self._readings = 0

    def step_queued(self) -> None:
        """Note that the device has been given an iteration to work on."""
        if self._given is not None:
            self._given.record()

    def next(self, batches: Iterator[_Batch]) -> _Batch:
        """Return the next batch."""
        asked = time.perf_counter()
        batch = next(batches)
        if self._given is None or self._given.query():  # asks without waiting
            self._waited += time.perf_counter() - asked
        return batch

    def per_second(self, seconds: float) -> float:
        """Return the seconds waited per second of ``seconds``, those since the last reading.

        Many are warned of once, but not at the first reading, as the loader was starting.
        """
        share, self._waited = min(1.0, self._waited / max(seconds, 1e-9)), 0.0
        self._readings += 1
        if self._readings > 1 and share > LONG_WAIT and self._is_shown:
            self._is_shown = False
            print(f"waiting for data {share:.0%} of the time: {self._advice}", file=sys.stderr, flush=True)
        return share


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
