"""Samples, and the batches made of them."""

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

PAD_ID = 0  # a test holds it equal to the tokenizer's


class ImageSample(TypedDict):
    """An image (3, height, width) float32 and its name."""

    image: Tensor
    image_id: str


class CaptionSample(ImageSample):
    """An image with the tokens of one caption, [SOS] and [EOS] included."""

    caption_tokens: list[int]


class ImageBatch(TypedDict):
    """Images (batch, 3, height, width) float32 and their names."""

    image: Tensor
    image_id: list[str]


class Batch(ImageBatch):
    """Images with captions.

    Attributes:
        caption_tokens: (batch, length) int64, padded with 0 to the longest caption of the batch.
        noitpac_tokens: the same captions read backwards, each reversed before it is padded.
        caption_lengths: (batch,) int64, tokens before the padding.
    """

    caption_tokens: Tensor
    noitpac_tokens: Tensor
    caption_lengths: Tensor


def collate_images(samples: Sequence[ImageSample]) -> ImageBatch:
    """Make one batch of images of equal size."""
    return {
        "image": torch.stack([sample["image"] for sample in samples]),
        "image_id": [sample["image_id"] for sample in samples],
    }


def collate_captions(samples: Sequence[CaptionSample]) -> Batch:
    """Make one batch of images of equal size and captions of any length."""
    captions = [torch.tensor(sample["caption_tokens"], dtype=torch.int64) for sample in samples]
    return {
        **collate_images(samples),
        "caption_tokens": pad_sequence(captions, batch_first=True, padding_value=PAD_ID),
        "noitpac_tokens": pad_sequence([tokens.flip(0) for tokens in captions], True, PAD_ID),
        "caption_lengths": torch.tensor([len(tokens) for tokens in captions]),
    }
