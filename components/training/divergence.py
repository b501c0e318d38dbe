"""Noticing that training has diverged, without asking the device after every iteration."""

import torch
from torch import Tensor

from components.core.errors import InputError
from components.training.checkpoints import CheckpointFolder


class Diverged(InputError):
    """Training met a loss or gradient that is not finite; says what to do when pretraining."""

    def __init__(self, iteration: int, message: str) -> None:
        super().__init__(message)
        self.iteration = iteration


class DivergenceCheck:
    """Remembers on the device the first iteration whose loss or gradient was not finite.

    Args:
        device: where the losses are.
        gradients_too: also look at gradient norms; off under fp16, where the gradient scaler
            skips steps whose gradients overflow.
    """

    def __init__(self, device: torch.device, gradients_too: bool) -> None:
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
            Diverged: if an iteration was not finite.
        """
        iteration = int(self._first_bad)
        if iteration == 0:
            return
        newest = checkpoints.paths()
        kept = f"The last good checkpoint is {newest[-1]}" if newest else "There is no checkpoint before it"
        raise Diverged(
            iteration,
            f"iteration {iteration}: the loss or its gradient is not finite: training has diverged. {kept}. "
            "Lower optimizer.backbone_lr or optimizer.head_lr, lengthen schedule.warmup_iterations, or "
            "choose pretrain.precision: fp32 or bf16. A changed configuration starts from the beginning; "
            "an unchanged one goes on from the checkpoint and will most likely diverge again.",
        )
