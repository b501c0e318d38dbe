"""torch.compile for the part of training that has one shape: the backbone, forward and backward."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def compiled(backbone: nn.Module, is_wanted: bool) -> Iterator[None]:
    """Within, ``backbone`` runs compiled in training mode and as it is written in eval mode.

    Validation has batches of other sizes, each of which would be compiled anew. The textual head is left
    alone for the same reason: captions differ in length from batch to batch.

    Shape:
        backbone ``(batch, 3, height, width)`` -> any, always of one shape
    """
    if not is_wanted:
        yield
        return
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
