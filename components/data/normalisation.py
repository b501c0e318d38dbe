"""Pixels to what a backbone sees, with the ImageNet statistics taken out (paper, section 3.2).

Batches for training stay uint8 until they are on the device: a quarter of the bytes to carry.
"""

import functools

import cv2
import numpy as np
import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_MEAN_255 = 255 * torch.tensor(IMAGENET_MEAN)
_INVERSE_STD_255 = 1 / (255 * torch.tensor(IMAGENET_STD))
# (256, 3): what each of the 256 values becomes in each channel, by the arithmetic that other devices do
_TABLE = ((torch.arange(256, dtype=torch.float32).unsqueeze(1) - _MEAN_255) * _INVERSE_STD_255).numpy()
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
    # NumPy asks for huge pages for large arrays; torch does not, and page faults cost more than the rest
    if memory_format == torch.channels_last:
        looked_up = np.empty((batch * height, width, 3), np.float32)
        if looked_up.size:
            cv2.LUT(source.reshape(looked_up.shape), _TABLE.reshape(1, 256, 3), looked_up)
        return torch.from_numpy(looked_up.reshape(source.shape)).permute(0, 3, 1, 2)
    result = np.empty((batch, 3, height, width), np.float32)
    for image, planes in zip(source, result, strict=True):
        for plane, values, table in zip(cv2.split(image), planes, _TABLES, strict=True):
            cv2.LUT(plane, table, values)
    return torch.from_numpy(result)


@functools.cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    mean, inverse_std = (values.view(3, 1, 1).to(device) for values in (_MEAN_255, _INVERSE_STD_255))
    return mean, inverse_std
