"""Lookahead: k steps forward, one step back (arXiv 1907.08610)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Lookahead(Optimizer):
    """Let another optimizer take ``steps`` steps, then pull its weights back towards a slow copy.

    Every ``steps`` steps: ``slow += alpha * (fast - slow)``, then ``fast = slow``. The inner
    optimizer's own state, such as momentum, is left as it is. ``param_groups`` and ``state`` are
    the inner optimizer's, so that learning-rate schedules and gradient scalers work through it.

    Args:
        inner: the optimizer of the fast weights.
        steps: inner steps between two pulls, at least 1.
        alpha: share of the way from the slow to the fast weights, in (0, 1].

    Raises:
        ValueError: for steps or alpha out of range.
    """

    def __init__(self, inner: Optimizer, steps: int, alpha: float) -> None:
        if steps < 1:
            raise ValueError(f"Lookahead steps must be at least 1, got {steps}")
        if not 0.0 < alpha <= 1.0:
            raise ValueError(f"Lookahead alpha must lie in (0, 1], got {alpha}")
        super().__init__(inner.param_groups, inner.defaults)
        self.inner = inner
        self.steps = steps
        self.alpha = alpha
        self.counter = 0
        self._share_inner()
        self.slow_weights = [weight.detach().clone() for weight in self._fast_weights()]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of the inner optimizer, and a pull after every ``steps`` of them."""
        loss = self.inner.step() if closure is None else self.inner.step(closure)
        self.counter += 1
        if self.counter == self.steps:
            self.counter = 0
            fast_weights = self._fast_weights()
            torch._foreach_lerp_(self.slow_weights, fast_weights, self.alpha)
            torch._foreach_copy_(fast_weights, self.slow_weights)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Everything an exact resume needs: the inner state, the slow weights and the counter."""
        return {
            "inner": self.inner.state_dict(),
            "slow_weights": list(self.slow_weights),
            "counter": self.counter,
            "steps": self.steps,
            "alpha": self.alpha,
        }

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned; nothing may be missing, unknown or of another shape.

        Raises:
            ValueError: naming what does not fit.
        """
        expected = {"inner", "slow_weights", "counter", "steps", "alpha"}
        if set(state_dict) != expected:
            raise ValueError(f"Lookahead state must have {sorted(expected)}, found {sorted(state_dict)}")
        for name, value in (("steps", self.steps), ("alpha", self.alpha)):
            if state_dict[name] != value:
                raise ValueError(f"Lookahead state was made with {name} {state_dict[name]}, not {value}")
        if not 0 <= state_dict["counter"] < self.steps:
            raise ValueError(f"Lookahead counter {state_dict['counter']} is not below {self.steps} steps")
        slow_weights = state_dict["slow_weights"]
        found = [tuple(weight.shape) for weight in slow_weights]
        shapes = [tuple(weight.shape) for weight in self.slow_weights]
        if found != shapes:
            raise ValueError(f"Lookahead slow weights have shapes {found}, expected {shapes}")
        self.inner.load_state_dict(state_dict["inner"])
        self._share_inner()
        for weight, loaded in zip(self.slow_weights, slow_weights, strict=True):
            weight.copy_(loaded)
        self.counter = int(state_dict["counter"])

    def _share_inner(self) -> None:
        self.param_groups = self.inner.param_groups
        self.state = self.inner.state

    def _fast_weights(self) -> list[Tensor]:
        return [weight for group in self.inner.param_groups for weight in group["params"]]
