"""Batches as training sees them: tensors by name, from wherever they come."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor

Batch = Mapping[str, Any]
TrainBatches = Callable[[int], Iterator[Batch]]  # from iterations already done to the batches that follow
ValBatches = Callable[[], Iterable[Batch]]  # a whole validation set, each time it is called


def to_device(batch: Batch, device: torch.device, memory_format: torch.memory_format) -> dict[str, Tensor]:
    """The batch's tensors on ``device``, the images in ``memory_format``; everything else is left out."""
    tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
    moved = {name: value.to(device, non_blocking=True) for name, value in tensors.items()}
    if "image" in moved:
        moved["image"] = moved["image"].contiguous(memory_format=memory_format)
    return moved


def in_groups(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """Lists of ``size`` batches; what is left over at the end is dropped."""
    while len(group := list(islice(batches, size))) == size:
        yield group
