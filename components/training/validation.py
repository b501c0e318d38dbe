"""Batches on the device, and the loss over a validation set."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from components.core.errors import InputError
from components.data.normalisation import normalised
from components.objectives.interface import Objective
from components.training.distributed import SINGLE_PROCESS, Processes
from components.training.optimizer import autocast
from components.training.state import unchanged_random_state

Batch = Mapping[str, Any]
TrainBatches = Callable[[int], Iterator[Batch]]  # from iterations already done to the batches that follow
ValBatches = Callable[[], Iterable[Batch]]  # a whole validation set, each time it is called


def to_device(batch: Batch, device: torch.device, memory_format: torch.memory_format) -> dict[str, Any]:
    """Return the batch's tensors on ``device``, those in lists and dictionaries too, and nothing else.

    Stacked images become ``(batch, 3, height, width)`` float32 in ``memory_format``: uint8 pixels
    ``(batch, height, width, 3)`` are normalised, others are normalised already.
    """
    moved = _on_device(batch, device)
    image = moved.get("image")
    if isinstance(image, Tensor):
        as_pixels = image.dtype == torch.uint8
        moved["image"] = (
            normalised(image, memory_format) if as_pixels else image.contiguous(memory_format=memory_format)
        )
    return moved


def _on_device(batch: Batch, device: torch.device) -> dict[str, Any]:
    moved: dict[str, Any] = {}
    for name, value in batch.items():
        if isinstance(value, Tensor):
            moved[name] = _moved(value, device)
        elif isinstance(value, list) and value and isinstance(value[0], Tensor):
            moved[name] = [_moved(item, device) for item in value]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            moved[name] = [_on_device(item, device) for item in value]
    return moved


def _moved(value: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on ``device``; a GPU that copies from ordinary memory would have to be waited for."""
    if device.type == "cuda" and value.device.type == "cpu" and not value.is_pinned():
        value = value.pin_memory()
    return value.to(device, non_blocking=True)


def in_groups(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """Yield lists of ``size`` batches; what is left over at the end is dropped."""
    while len(group := list(islice(batches, size))) == size:
        yield group


def validate(
    objective: Objective,
    batches: Iterable[Batch],
    device: torch.device,
    precision: str = "fp32",
    memory_format: torch.memory_format = torch.contiguous_format,
    processes: Processes = SINGLE_PROCESS,
) -> dict[str, float]:
    """Return the means of the loss and its parts over all predictions of all batches of all processes.

    Batches count by their number of predictions (tokens), so that their size and the length of
    their captions do not matter. The objective is in eval mode meanwhile and then in the mode it
    was in; random generators stay as they were.

    Returns:
        ``loss`` and the parts by name, without parts that are not finite: those of a probe head, among
        several, that has diverged.

    Raises:
        InputError: if there is nothing to predict, in all processes or in this one.
    """
    sums: dict[str, Tensor] = {}
    num_tokens = torch.zeros((), dtype=torch.int64, device=device)
    with evaluating(objective), torch.inference_mode(), unchanged_random_state():
        for batch in batches:
            with autocast(device, precision):
                output = objective(to_device(objective.prepared(batch), device, memory_format))
            num_tokens += output.num_tokens
            for name, value in {"loss": output.loss, **output.parts}.items():
                total = value.double() * output.num_tokens
                sums[name] = sums[name] + total if name in sums else total
    if not sums:
        raise InputError(
            "the validation set is empty: it needs at least one image with a caption per process"
        )
    totals = processes.all_reduce_sum(torch.stack([num_tokens.double(), *sums.values()]))
    if not totals[0]:
        raise InputError("the validation set has nothing to predict")
    means = zip(sums, (totals[1:] / totals[0]).tolist(), strict=True)
    return {name: mean for name, mean in means if name == "loss" or math.isfinite(mean)}


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Set eval mode for a while; afterwards each submodule is in the mode it was in."""
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for submodule, mode in modes:
            submodule.training = mode
