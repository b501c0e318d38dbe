"""Samples, and the batches made of them.

Images of training are uint8 pixels, height and width before the channels, until they are on the device;
others are float32, normalised, and have the channels first. See components.data.normalisation.
"""

from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import default_collate

from components.core.caption_tokens import PAD_ID

Targets = dict[str, list[int] | int]  # by batch key: ids, or how many there are
Batch = dict[str, Any]  # by key: `image`, `image_id`, and tensors of the targets


class ImageSample(TypedDict):
    """An image, (height, width, 3) uint8 or (3, height, width) float32, and its name."""

    image: Tensor
    image_id: str


class TargetSample(ImageSample):
    """An image with what the pretraining task is taught with it; see components.data.targets."""

    targets: Targets


class ImageBatch(TypedDict):
    """Images, (batch, height, width, 3) uint8 or (batch, 3, height, width) float32, and their names."""

    image: Tensor
    image_id: list[str]


class Together(list[Any]):
    """Samples whose images lie together in one tensor already, see components.data.loader."""

    images: Tensor
    piece: int


def collate_images(samples: Sequence[ImageSample]) -> ImageBatch:
    """Make one batch of images of equal size."""
    if isinstance(samples, Together):
        images = samples.images
    else:  # of a worker's images, torch makes the batch in the memory that this process shares
        images = default_collate([sample["image"] for sample in samples])
    return {"image": images, "image_id": [sample["image_id"] for sample in samples]}


def collate_targets(samples: Sequence[TargetSample], lengths: Sequence[int] | None = None) -> Batch:
    """Make one batch of images of equal size and their targets.

    Lists of ids become (batch, length) int64, padded with 0 to the longest of the batch, or, of rising
    ``lengths``, to the first that is long enough; numbers become (batch,) int64.

    Raises:
        ValueError: if one is longer than all ``lengths``.
    """
    keys = samples[0]["targets"]
    return {
        **collate_images(samples),
        **{key: _stacked([sample["targets"][key] for sample in samples], lengths) for key in keys},
    }


def _stacked(values: Sequence[list[int] | int], lengths: Sequence[int] | None) -> Tensor:
    if isinstance(values[0], int):
        return torch.tensor(values, dtype=torch.int64)
    rows = [torch.tensor(value, dtype=torch.int64) for value in values]
    padded = pad_sequence(rows, batch_first=True, padding_value=PAD_ID)
    if lengths is None:
        return padded
    longest = padded.shape[1]
    length = next((length for length in lengths if length >= longest), None)
    if length is None:
        raise ValueError(f"a caption has {longest} tokens, more than any of {list(lengths)}")
    return F.pad(padded, (0, length - longest), value=PAD_ID)
