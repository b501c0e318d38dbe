"""Two ways to do the same work, timed in turn.

torch.utils.benchmark times one statement after the other and on the clock alone: sides would not share what
the machine does meanwhile, and the processor time of loader workers would be lost.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import psutil

Clock = Literal["wall", "cpu"]
Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and quartiles of some rounds."""

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        lower, median, upper = np.percentile(np.asarray(values, dtype=np.float64), (25, 50, 75))
        return cls(float(median), float(lower), float(upper))


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of every round of one side: on the clock, and of processor time, children included."""

    wall: list[float]
    cpu: list[float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One row of a benchmark's table.

    Attributes:
        name: what was done.
        units: pieces of work in a round.
        unit: what a piece is, such as ``images``.
        clock: which time the ratio is about. ``cpu`` gives pieces a second and core, whatever the
            number of cores and whoever else uses them.
        baseline: the paper's recipe, written plainly.
        ours: this project's way.
        target: the ratio to reach; None where there is none.
        figures: what else was measured, such as that both sides agree.
    """

    name: str
    units: float
    unit: str
    clock: Clock
    baseline: Times
    ours: Times
    target: float | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)

    def rate(self, times: Times) -> Spread:
        """Pieces a second (``wall``), or a second of one core (``cpu``)."""
        return Spread.of([self.units / seconds for seconds in self._seconds(times)])

    def ratio(self) -> Spread:
        """How many times faster ours was than the baseline of the same round."""
        pairs = zip(self._seconds(self.baseline), self._seconds(self.ours), strict=True)
        return Spread.of([baseline / ours for baseline, ours in pairs])

    def _seconds(self, times: Times) -> list[float]:
        return times.wall if self.clock == "wall" else times.cpu


def in_turn(works: Sequence[Work], rounds: int, warm_up: int = 1) -> list[Times]:
    """Time each of ``works`` once a round, after ``warm_up`` rounds that do not count."""
    times = [Times([], []) for _ in works]
    for number, index in turns(len(works), rounds, warm_up):
        cpu, start = _cpu_seconds(), time.perf_counter()
        works[index]()
        wall = time.perf_counter() - start
        if number >= 0:
            times[index].wall.append(wall)
            times[index].cpu.append(_cpu_seconds() - cpu)
    return times


def turns(count: int, rounds: int, warm_up: int = 0) -> Iterator[tuple[int, int]]:
    """Number of the round, negative while warming up, and who of ``count`` has a turn in it.

    Every other round goes backwards, so that a machine that slows down steadily favours none.
    """
    for number in range(-warm_up, rounds):
        order = range(count) if number % 2 == 0 else reversed(range(count))
        yield from ((number, index) for index in order)


def _cpu_seconds() -> float:
    """Processor time so far of this process, its living children and those it has waited for."""
    process = psutil.Process()
    own = process.cpu_times()
    total = time.process_time() + own.children_user + own.children_system
    for child in process.children(recursive=True):
        try:
            spent = child.cpu_times()
        except psutil.NoSuchProcess:  # it has just ended, and counts as waited for
            continue
        total += spent.user + spent.system + spent.children_user + spent.children_system
    return total
