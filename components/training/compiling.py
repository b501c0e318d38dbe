"""torch.compile for the part of training that has one shape: the backbone, forward and backward."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from components.core.errors import InputError

_COMPILERS = {"cpu": ("CXX", "c++", "g++", "clang++"), "cuda": ("CC", "cc", "gcc", "clang")}


@contextmanager
def compiled(backbone: nn.Module, is_wanted: bool) -> Iterator[None]:
    """Within, ``backbone`` runs compiled in training mode and as it is written in eval mode.

    Validation has batches of other sizes, each of which would be compiled anew. The textual head is left
    alone for the same reason: captions differ in length from batch to batch.

    Shape:
        backbone ``(batch, 3, height, width)`` -> any, always of one shape

    Raises:
        InputError: if there is no compiler for what torch writes.
    """
    if not is_wanted:
        yield
        return
    _check_compiler(next(backbone.parameters()).device.type)
    plain = backbone.forward
    fast = torch.compile(plain, dynamic=False)

    def forward(image: Tensor) -> Tensor:
        features: Tensor = (fast if backbone.training else plain)(image)
        return features

    backbone.forward = forward  # of this one object: the names of its weights stay as they are
    try:
        yield
    finally:
        del backbone.forward  # what the class says again


def _check_compiler(device_type: str) -> None:
    """Torch would notice in the first iteration, with a traceback of a hundred lines."""
    variable, *names = _COMPILERS.get(device_type, _COMPILERS["cpu"])
    if not os.environ.get(variable) and not any(map(shutil.which, names)):
        raise InputError(
            f"pretrain.compile: found no compiler ({', '.join(names)}); install one, name it in {variable}, "
            "or set pretrain.compile to false"
        )
