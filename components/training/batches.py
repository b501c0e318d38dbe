"""Batches as training sees them: tensors by name, from wherever they come."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from components.core.normalisation import normalised

Batch = Mapping[str, Any]
TrainBatches = Callable[[int], Iterator[Batch]]  # from iterations already done to the batches that follow
ValBatches = Callable[[], Iterable[Batch]]  # a whole validation set, each time it is called


def to_device(batch: Batch, device: torch.device, memory_format: torch.memory_format) -> dict[str, Tensor]:
    """The batch's tensors on ``device``; everything else is left out.

    Images become ``(batch, 3, height, width)`` float32 in ``memory_format``: uint8 pixels
    ``(batch, height, width, 3)`` are normalised, others are normalised already.
    """
    tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
    moved = {name: value.to(device, non_blocking=True) for name, value in tensors.items()}
    image = moved.get("image")
    if image is not None:
        as_pixels = image.dtype == torch.uint8
        moved["image"] = (
            normalised(image, memory_format) if as_pixels else image.contiguous(memory_format=memory_format)
        )
    return moved


def in_groups(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """Lists of ``size`` batches; what is left over at the end is dropped."""
    while len(group := list(islice(batches, size))) == size:
        yield group
