"""Losses that detectron2's loop logs."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from components.core.errors import InputError
from components.training.loop import Log


class LossRows:
    """Logged losses of a run; they go with its checkpoints.

    Attributes:
        rows: losses by iteration, means since the row before.
    """

    def __init__(self, log: Log) -> None:
        self.rows: list[dict[str, float]] = []
        self._log = log
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add the parts of one iteration's loss."""
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

    def state_dict(self) -> dict[str, Any]:
        return {"rows": list(self.rows), "sums": dict(self._sums), "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict``; its rows are logged again."""
        self.rows[:], self._sums, self._count = state["rows"], dict(state["sums"]), state["count"]
        for row in self.rows:
            self._log({f"train/{k}": v for k, v in row.items() if k != "iteration"}, int(row["iteration"]))


def not_finite(where: str) -> InputError:
    """Return the error that says what to do when training has diverged."""
    return InputError(
        f"the detection loss is not finite {where}; lower the learning rate or lengthen the warm-up of this "
        f"benchmark in params.yaml"
    )
