"""All that changes while training, together, so that it can be saved and continued exactly."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from components.core.files import write_text
from components.objectives.interface import Objective
from components.training.distributed import SINGLE_PROCESS, Processes
from components.training.optimizer import LearningRateSchedule, Multiplier, grad_scaler

PARTS = (
    "iteration",
    "objective",
    "optimizer",
    "schedule",
    "scaler",
    "random",
    "averages",
    "history",
    "num_images",
    "seconds",
)


class TrainingState:
    """A training run between two iterations.

    Attributes:
        iteration: iterations done.
        averages: what was measured since the last row of ``history``.
        history: rows measured so far.
        num_images: images trained on so far.
        seconds: time spent training so far, without validation and checkpoints.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        schedule: Multiplier,
        precision: str,
        device: torch.device,
        seed: int = 0,
        processes: Processes = SINGLE_PROCESS,
    ) -> None:
        self.device = device
        self.seed = seed
        self.processes = processes
        self.objective = objective
        self.optimizer = optimizer
        self.schedule = LearningRateSchedule(optimizer, schedule)
        self.scaler = grad_scaler(device, precision)
        self.averages = Averages()
        self.history = History()
        self.iteration = 0
        self.num_images = 0
        self.seconds = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values, random states of all processes included, which all must ask."""
        return {
            "iteration": self.iteration,
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": random_states(self.device, self.processes),
            "averages": self.averages.state_dict(),
            "history": {"train": self.history.train, "val": self.history.val},
            "num_images": self.num_images,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what ``state_dict`` returned.

        With as many processes as then the run goes on exactly. With more or fewer each draws its dropout
        from a new random stream; the images of every iteration stay the same.

        Raises:
            ValueError: if a part is missing or unknown.
        """
        if set(state) != set(PARTS):
            raise ValueError(f"a training state has {sorted(PARTS)}, found {sorted(state)}")
        self.iteration = state["iteration"]
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.averages.load_state_dict(state["averages"], self.device)
        self.history = History(list(state["history"]["train"]), list(state["history"]["val"]))
        self.num_images = state["num_images"]
        self.seconds = state["seconds"]
        if len(state["random"]) == self.processes.count:
            set_random_state(state["random"], self.device, self.processes.rank)
        else:
            seed_process(self.seed, self.processes.rank, self.iteration)


class Averages:
    """Means since the last reading; values that are not finite are left out of theirs.

    The latter concerns gradient norms under fp16, where the gradient scaler skips such steps.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._sums: Tensor | None = None
        self._counts: Tensor | None = None

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one value a name, each a tensor of one element; the names must stay the same."""
        stacked = torch.stack([value.detach().reshape(()).double() for value in values.values()])
        finite = torch.isfinite(stacked)
        stacked = torch.where(finite, stacked, 0.0)
        if self._sums is None or self._counts is None:
            self._names, self._sums, self._counts = list(values), stacked, finite.long()
        elif self._names != list(values):
            raise ValueError(f"averages of {self._names} cannot take {list(values)}")
        else:
            self._sums += stacked
            self._counts += finite

    def read(self) -> dict[str, float]:
        """Return the means, names without a finite value left out; starts afresh."""
        if self._sums is None or self._counts is None:
            return {}
        gathered = zip(self._names, self._sums.tolist(), self._counts.tolist(), strict=True)
        means = {name: total / count for name, total, count in gathered if count}
        self._names, self._sums, self._counts = [], None, None
        return means

    def state_dict(self) -> dict[str, Any]:
        """Return what has been gathered since the last reading."""
        return {"names": self._names, "sums": self._sums, "counts": self._counts}

    def load_state_dict(self, state_dict: dict[str, Any], device: torch.device) -> None:
        """Go on from a saved state, on ``device``."""
        self._names = list(state_dict["names"])
        sums, counts = state_dict["sums"], state_dict["counts"]
        self._sums = None if sums is None else sums.to(device)
        self._counts = None if counts is None else counts.to(device)


Row = dict[str, float]


@dataclass(slots=True)
class History:
    """Rows of measurements; each has ``iteration``, the number of iterations done by then."""

    train: list[Row] = field(default_factory=list)
    val: list[Row] = field(default_factory=list)

    def is_validated(self, iteration: int) -> bool:
        """Return whether there is a validation after ``iteration`` iterations."""
        return any(row["iteration"] == iteration for row in self.val)

    @property
    def best_validation(self) -> Row | None:
        """The validation with the lowest loss, the first of several; None without any."""
        return min(self.val, key=lambda row: row["loss"], default=None)

    def per_second(self, name: str) -> float | None:
        """Return the mean over training time of a figure per second; None if no row has it."""
        rows: list[Row] = [{"iteration": 0.0}, *self.train]
        seconds = total = 0.0
        for before, row in zip(rows, self.train, strict=False):
            if name in row:  # not in one of a version that did not measure it
                took = (row["iteration"] - before["iteration"]) / row["images_per_second"]  # images alike
                seconds += took
                total += took * row[name]
        return total / seconds if seconds else None

    def write_csv(self, folder: Path) -> list[Path]:
        """Write ``train.csv`` and ``val.csv`` into ``folder``, atomically; returns their paths."""
        return [_write_csv(folder / "train.csv", self.train), _write_csv(folder / "val.csv", self.val)]


def _write_csv(path: Path, rows: list[Row]) -> Path:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
    return path


class RandomState(TypedDict):
    """States of the CPU generator and of that of the GPU trained on, empty on a CPU; uint8."""

    cpu: Tensor
    gpu: Tensor


def random_states(device: torch.device, processes: Processes = SINGLE_PROCESS) -> list[RandomState]:
    """Return the present states of all processes, by rank."""
    on_gpu = device.type == "cuda"
    cpu = torch.get_rng_state()
    gpu = torch.cuda.get_rng_state(device) if on_gpu else torch.empty(0, dtype=torch.uint8)
    gpus = processes.gathered(gpu) if on_gpu else [gpu] * processes.count
    return [{"cpu": one, "gpu": other} for one, other in zip(processes.gathered(cpu), gpus, strict=True)]


def set_random_state(states: Sequence[RandomState], device: torch.device, rank: int = 0) -> None:
    """Restore one process's state, out of those of all; a GPU that is new keeps its own."""
    torch.set_rng_state(states[rank]["cpu"])
    if device.type == "cuda" and len(states[rank]["gpu"]):
        torch.cuda.set_rng_state(states[rank]["gpu"], device)


def seed_process(seed: int, rank: int, iteration: int = 0) -> None:
    """Give a process numbers of its own, for a run that begins after ``iteration`` iterations."""
    sequence = np.random.SeedSequence(seed, spawn_key=(rank, iteration))
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))


@contextmanager
def unchanged_random_state() -> Iterator[None]:
    """Undo every draw made inside, so that it cannot shift what training draws.

    A DataLoader, for one, draws its workers' seed from the global generator whenever it is started.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        yield
