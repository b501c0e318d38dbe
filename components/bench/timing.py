"""Two ways to do the same work, timed in turn: their rates and ratio as a table and as JSON.

torch.utils.benchmark times one statement after the other and on the clock alone: sides would not share what
the machine does meanwhile, and the processor time of loader workers would be lost.
"""

import datetime
import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
        """Return that of at least one value."""
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
        clock: which time the ratio is about. ``cpu`` gives pieces per second per core, whatever the
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
        """Return pieces per second (``wall``), or per second of one core (``cpu``)."""
        return Spread.of([self.units / seconds for seconds in self._seconds(times)])

    def ratio(self) -> Spread:
        """Return how many times faster ours was than the baseline of the same round."""
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
    """Yield the number of the round, negative while warming up, and who of ``count`` has a turn in it.

    Every other round goes backwards, so that a machine that slows down steadily favours none.
    """
    for number in range(-warm_up, rounds):
        order = range(count) if number % 2 == 0 else reversed(range(count))
        yield from ((number, index) for index in order)


def _cpu_seconds() -> float:
    """Return the processor time so far of this process, its living children and those it has waited for."""
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


VERSIONS = (
    "torch",
    "torchvision",
    "numpy",
    "scikit-learn",
    "opencv-python-headless",
    "simplejpeg",
    "lmdb",
    "dvc",
)


def hardware() -> dict[str, Any]:
    """Return processor, cores this process may use, memory, GPU, versions, commit and UTC date."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "gpu": gpu,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def as_json(bench: str, quick: bool, machine: dict[str, Any], rows: Sequence[Comparison]) -> dict[str, Any]:
    """Return everything measured; times are seconds."""
    return {
        "bench": bench,
        "quick": quick,
        "machine": machine,
        "comparisons": [
            {
                **asdict(row),
                "baseline_rate": asdict(row.rate(row.baseline)),
                "our_rate": asdict(row.rate(row.ours)),
                "ratio": asdict(row.ratio()),
            }
            for row in rows
        ],
    }


def as_table(rows: Sequence[Comparison], has_verdicts: bool = True) -> str:
    """Return Markdown: medians, quartiles in brackets, and whether targets are met if ``has_verdicts``."""
    lines = ["| what | unit | baseline | ours | ratio | target |", "|---|---|---|---|---|---|"]
    for row in rows:
        unit = f"{row.unit}/s" + (" per core" if row.clock == "cpu" else "")
        target = "-" if row.target is None else f"{row.target:g}x"
        if has_verdicts and row.target is not None:
            target += ": met" if is_met(row) else ": missed"
        ratio = _shown(row.ratio(), "x")
        cells = (row.name, unit, _shown(row.rate(row.baseline)), _shown(row.rate(row.ours)), ratio, target)
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"{row.name}: {name} {value}" for row in rows for name, value in row.figures.items()]
    return "\n".join([*lines, "", *notes])


def is_met(row: Comparison) -> bool:
    """Return whether the median ratio reaches the target; a row without one has nothing to reach."""
    return row.target is None or row.ratio().median >= row.target


def _shown(spread: Spread, suffix: str = "") -> str:
    median, lower, upper = (f"{value:.3g}{suffix}" for value in (spread.median, spread.lower, spread.upper))
    return f"{median} ({lower} to {upper})"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None
