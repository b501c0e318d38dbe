"""A detector's training run between two iterations, and what is written of it."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from components.errors import InputError
from components.training.checkpoints import Checkpoint, CheckpointFolder
from components.training.distributed import Processes

Log = Callable[[dict[str, float], int], None]


class DetectorRun:
    """How far a run is, in each of the processes that train together.

    Attributes:
        iteration: iterations done.
        rows: losses by iteration, means over all processes since the row before.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, processes: Processes) -> None:
        self.model = model
        self.optimizer = optimizer
        self.processes = processes
        self.device = next(model.parameters()).device
        self.iteration = 0
        self.rows: list[dict[str, float]] = []
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, losses: dict[str, Tensor]) -> None:
        self.iteration += 1
        self._count += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value.detach()

    def close_row(self) -> dict[str, float]:
        parts = {name: float(total) / self._count for name, total in self._shared_sums().items()}
        self._sums, self._count = {}, 0
        loss = sum(parts.values())
        if not math.isfinite(loss):
            raise InputError(
                f"the detection loss is not finite at iteration {self.iteration}: {parts}; lower the "
                f"learning rate or lengthen the warm-up of this benchmark in params.yaml"
            )
        row = {"loss": loss, **parts}
        self.rows.append({"iteration": self.iteration, **row})
        return row

    def save(self, checkpoints: CheckpointFolder) -> None:
        """All processes call it, the first one writes."""
        self._sums = self._shared_sums()
        if not self.processes.is_first:
            return
        state: dict[str, Any] = {
            "iteration": self.iteration,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rows": self.rows,
            "sums": self._sums,
            "count": self._count,
        }
        checkpoints.save(self.iteration, state)

    def resume(self, checkpoints: CheckpointFolder, log: Log) -> None:
        """From the newest checkpoint that the first process can read, if there is one."""
        newest = checkpoints.latest() if self.processes.is_first else None
        iteration = self.processes.from_first(newest.iteration if newest else -1)
        if iteration < 0:
            return
        self._continue(newest or checkpoints.at(iteration))
        for row in self.rows:
            log({f"train/{k}": v for k, v in row.items() if k != "iteration"}, int(row["iteration"]))

    def _continue(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._sums = {name: value.to(self.device) for name, value in state["sums"].items()}
        self._count, self.rows, self.iteration = state["count"], state["rows"], state["iteration"]
        if self.processes.is_first:
            print(f"continuing after iteration {self.iteration}, from {checkpoint.path}", flush=True)

    def _shared_sums(self) -> dict[str, Tensor]:
        """The mean over processes, the same in each."""
        if self.processes.count == 1:
            return self._sums
        return {
            name: self.processes.add_up(total.clone()) / self.processes.count
            for name, total in self._sums.items()
        }
