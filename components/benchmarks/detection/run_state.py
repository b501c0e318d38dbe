"""A detector's training run between two iterations, and what is written of it."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from components.core.errors import InputError
from components.training.checkpoints import Checkpoint, CheckpointFolder
from components.training.distributed import Processes

Log = Callable[[dict[str, float], int], None]


class LossRows:
    """Logged losses of a run, whichever engine trains; they go with its checkpoints.

    Attributes:
        rows: losses by iteration, means over all processes since the row before.
    """

    def __init__(self, log: Log) -> None:
        self.rows: list[dict[str, float]] = []
        self._log = log
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """The parts of one iteration's loss."""
        self._count += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value.detach()

    def close(self, iteration: int) -> dict[str, float]:
        """Log the row that ends after ``iteration``.

        Raises:
            InputError: the loss is not finite.
        """
        parts = {name: float(total) / self._count for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        loss = sum(parts.values())
        if not math.isfinite(loss):
            raise not_finite(f"at iteration {iteration}: {parts}")
        row = {"loss": loss, **parts}
        self.rows.append({"iteration": iteration, **row})
        self._log({f"train/{name}": value for name, value in row.items()}, iteration)
        return row

    def share(self, processes: Processes) -> None:
        """Make the losses since the last row the mean over processes, the same in each."""
        if processes.count > 1:
            for total in self._sums.values():
                processes.add_up(total).div_(processes.count)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": list(self.rows), "sums": dict(self._sums), "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict``; its rows are logged again."""
        self.rows[:], self._sums, self._count = state["rows"], dict(state["sums"]), state["count"]
        for row in self.rows:
            self._log({f"train/{k}": v for k, v in row.items() if k != "iteration"}, int(row["iteration"]))


def not_finite(where: str) -> InputError:
    """What to do when training has diverged."""
    return InputError(
        f"the detection loss is not finite {where}; lower the learning rate or lengthen the warm-up of this "
        f"benchmark in params.yaml"
    )


class DetectorRun:
    """How far a run is, in each of the processes that train together.

    Attributes:
        iteration: iterations done.
        losses: what was logged.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, processes: Processes, log: Log
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.processes = processes
        self.device = next(model.parameters()).device
        self.iteration = 0
        self.losses = LossRows(log)

    def add(self, losses: dict[str, Tensor]) -> None:
        self.iteration += 1
        self.losses.add(losses)

    def close_row(self) -> dict[str, float]:
        self.losses.share(self.processes)
        return self.losses.close(self.iteration)

    def save(self, checkpoints: CheckpointFolder) -> None:
        """All processes call it, the first one writes."""
        self.losses.share(self.processes)
        if not self.processes.is_first:
            return
        state: dict[str, Any] = {
            "iteration": self.iteration,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **self.losses.state_dict(),
        }
        checkpoints.save(self.iteration, state)

    def resume(self, checkpoints: CheckpointFolder) -> None:
        """From the newest checkpoint that the first process can read, if there is one."""
        newest = checkpoints.latest() if self.processes.is_first else None
        iteration = self.processes.from_first(newest.iteration if newest else -1)
        if iteration >= 0:
            self._continue(newest or checkpoints.at(iteration))

    def _continue(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        sums = {name: value.to(self.device) for name, value in state["sums"].items()}
        self.losses.load_state_dict({**state, "sums": sums})
        self.iteration = state["iteration"]
        if self.processes.is_first:
            print(f"continuing after iteration {self.iteration}, from {checkpoint.path}", flush=True)
