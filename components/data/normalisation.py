"""Pixels to what a backbone sees, with the ImageNet statistics taken out (paper, section 3.2).

Batches for training stay uint8 until they are on the device: a quarter of the bytes to carry.
"""

import functools
import math
import weakref
from collections import deque

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_MEAN_255 = 255 * torch.tensor(IMAGENET_MEAN)
_INVERSE_STD_255 = 1 / (255 * torch.tensor(IMAGENET_STD))
# (256, 3): what each of the 256 values becomes in each channel, by the arithmetic that other devices do
_TABLE = ((torch.arange(256, dtype=torch.float32).unsqueeze(1) - _MEAN_255) * _INVERSE_STD_255).numpy()
_LARGEST_KEPT = 256 * 2**20
_unused: deque[NDArray[np.float32]] = deque(maxlen=2)  # what its users have let go of
_TABLES = [np.ascontiguousarray(_TABLE[:, channel]) for channel in range(3)]


def normalised(pixels: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    """Turn uint8 pixels (batch, height, width, 3) into float32 (batch, 3, height, width) on the same device.

    Every device and memory format gives the same values, bit by bit. On a CPU they are looked up in
    tables: one pass over the memory instead of three.
    """
    if pixels.device.type == "cpu":
        return _from_tables(pixels, memory_format)
    mean, inverse_std = _statistics(pixels.device)
    images = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=memory_format)
    return images.sub_(mean).mul_(inverse_std)


def unnormalised(image: Tensor) -> Tensor:
    """Return the uint8 pixels (height, width, 3) of an image (3, height, width) that ``normalised`` made."""
    values = image.permute(1, 2, 0) * (255 * torch.tensor(IMAGENET_STD)) + _MEAN_255
    return values.round().clamp(0, 255).to(torch.uint8)


def _from_tables(pixels: Tensor, memory_format: torch.memory_format) -> Tensor:
    batch, height, width, _ = pixels.shape
    source = pixels.contiguous().numpy()
    if memory_format == torch.channels_last:
        looked_up = _empty((batch * height, width, 3))
        if looked_up.numel():
            cv2.LUT(source.reshape(batch * height, width, 3), _TABLE.reshape(1, 256, 3), looked_up.numpy())
        return looked_up.view(source.shape).permute(0, 3, 1, 2)
    result = _empty((batch, 3, height, width))
    for image, planes in zip(source, result.numpy(), strict=True):
        for plane, values, table in zip(cv2.split(image), planes, _TABLES, strict=True):
            cv2.LUT(plane, table, values)
    return result


def _empty(shape: tuple[int, ...]) -> Tensor:
    """Return a float32 tensor in memory that no array or tensor uses any longer, or in new memory.

    For new memory the system has to find pages and fill them with zeros, which costs more than the rest.
    """
    size = math.prod(shape)
    try:
        memory = _unused.pop()
    except IndexError:
        memory = None
    if memory is None or not size <= memory.size <= 2 * size:
        memory = np.empty(size, np.float32)  # NumPy asks for huge pages; torch does not
    array = memory[:size]
    if memory.nbytes <= _LARGEST_KEPT:
        weakref.finalize(array, _unused.append, memory).atexit = False
    return torch.from_numpy(array).view(shape)  # which holds the array; a view of NumPy's would not


@functools.cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    mean, inverse_std = (values.view(3, 1, 1).to(device) for values in (_MEAN_255, _INVERSE_STD_255))
    return mean, inverse_std
