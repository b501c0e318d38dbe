"""What training and validation know of an objective."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class ObjectiveOutput:
    """Loss of one batch.

    Attributes:
        loss: scalar to minimise, the sum of the parts.
        parts: the loss's summands by name, scalars without gradient.
        num_tokens: int64 scalar: how many predictions each part is the mean of (tokens, or images
            for the classification objectives). Weight batches with it to average over a dataset.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    num_tokens: Tensor


class Objective(nn.Module, ABC):
    """A backbone, named ``visual``, one or two textual heads, and a loss.

    Subclasses say in their docstring which keys of the batch they read.
    """

    visual: nn.Module

    def prepared(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a batch that is still on the host with what ``forward`` would have to ask the device for.

        ``forward`` takes batches without it, too, and then waits for the device.
        """
        return batch

    def fixed_shape_methods(self) -> list[tuple[nn.Module, str]]:
        """Return modules with the name of a method whose inputs have one shape per shape of captions."""
        return []

    @abstractmethod
    def forward(self, batch: Mapping[str, Tensor]) -> ObjectiveOutput:
        """Return the loss of a batch."""
