"""The loss of an iteration that is worked on in parts, by several processes or one after the other."""

from collections.abc import Iterable

import torch
from torch import Tensor

from components.objectives.interface import ObjectiveOutput
from components.training.distributed import Processes


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
        totals = self._processes.add_up(torch.stack(self._sums).sum(dim=0))
        num_tokens, sums = totals[0].clamp(min=1), totals[1:]
        if not self._is_whole:
            factor = self._processes.count * self._num_images / num_tokens
            torch._foreach_mul_(list(gradients), factor.float())
        return {name: total / num_tokens for name, total in zip(self._names, sums.unbind(), strict=True)}
