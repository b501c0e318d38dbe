"""Learning-rate multipliers by iteration, and the schedule that applies them."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from torch.optim import Optimizer

Multiplier = Callable[[int], float]


def multiplier(
    name: str,
    iterations: int,
    *,
    warmup_iterations: int = 0,
    milestones: Sequence[int] = (),
    gamma: float = 0.1,
) -> Multiplier:
    """Return the factor on every base learning rate, as a function of the 0-based iteration.

    All four rise linearly from 0 during the warm-up. With ``r`` the share of the remaining
    iterations that is done, cosine is ``cos(pi r / 2) ** 2``, linear is ``1 - r`` but at least 0,
    multistep is ``gamma`` to the number of milestones passed, none is 1. Beyond the last iteration
    cosine rises again, as the formula does. Paper, section 3.2.
    """
    warmup = warmup_iterations
    after_warmup = iterations - warmup

    def cosine(iteration: int) -> float:
        return math.cos((iteration - warmup) / after_warmup * math.pi / 2) ** 2

    def linear(iteration: int) -> float:
        return max(0.0, (iterations - iteration) / after_warmup)

    def multistep(iteration: int) -> float:
        return gamma ** bisect_right(milestones, iteration)

    def none(_iteration: int) -> float:
        return 1.0

    shape = {"cosine": cosine, "linear": linear, "multistep": multistep, "none": none}[name]
    return lambda iteration: iteration / warmup if iteration < warmup else shape(iteration)


class LearningRateSchedule:
    """Sets ``lr`` of every parameter group to its base value times the multiplier.

    The base values are those the groups have when the schedule is made. Unlike torch's LambdaLR it
    does not mind an iteration whose optimizer step the gradient scaler skipped, and it refuses a
    state that was made with other base values.
    """

    def __init__(self, optimizer: Optimizer, multiplier: Multiplier) -> None:
        self.optimizer = optimizer
        self.multiplier = multiplier
        self.base_lrs = [float(group["lr"]) for group in optimizer.param_groups]
        self.iteration = 0
        self._apply()

    def step(self) -> None:
        """Move on to the next iteration."""
        self.iteration += 1
        self._apply()

    def state_dict(self) -> dict[str, Any]:
        """Return the 0-based iteration whose learning rates are in force, and the base values."""
        return {"iteration": self.iteration, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state.

        Raises:
            ValueError: if it was made with other base learning rates.
        """
        if state_dict["base_lrs"] != self.base_lrs:
            raise ValueError(f"schedule was made for {state_dict['base_lrs']}, not {self.base_lrs}")
        self.iteration = int(state_dict["iteration"])
        self._apply()

    def _apply(self) -> None:
        factor = self.multiplier(self.iteration)
        for group, base_lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base_lr * factor
