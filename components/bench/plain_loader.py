"""A plain PyTorch loader with OpenCV: the baseline of `components.bench.data`.

Its transforms do what the paper's did (section 3.2; albumentations on OpenCV): bilinear crop without
antialiasing, jitter on uint8, normalisation in float32, all an image at a time.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from cv2.typing import MatLike
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from components.core.normalisation import IMAGENET_MEAN, IMAGENET_STD
from components.data.store import CaptionStore
from components.params import Augmentation
from components.text.tokenizer import CaptionTokenizer

MAX_LENGTH = 30  # caption tokens


class PlainDataset(Dataset[tuple[Tensor, Tensor]]):
    """Images and captions by index, everything done an image at a time."""

    def __init__(
        self, store: CaptionStore, tokenizer: CaptionTokenizer, augmentation: Augmentation, length: int
    ) -> None:
        self.store = store
        self.tokenizer = tokenizer
        self.augmentation = augmentation
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(index)
        record = self.store.get(index % len(self.store))
        caption = record.captions[rng.integers(len(record.captions))]
        pixels = cv2.imdecode(np.frombuffer(record.image, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        image = plain_transform(pixels, self.augmentation, rng)
        return image, torch.tensor(self.tokenizer.caption_tokens(caption, MAX_LENGTH))


def plain_transform(pixels: MatLike, augmentation: Augmentation, rng: np.random.Generator) -> Tensor:
    """Crop, flip, jitter and normalise one image, as albumentations does it."""
    area = pixels.shape[0] * pixels.shape[1] * rng.uniform(*augmentation.crop_scale)
    ratio = math.exp(rng.uniform(*np.log(augmentation.crop_ratio)))
    height = min(pixels.shape[0], max(1, round(math.sqrt(area / ratio))))
    width = min(pixels.shape[1], max(1, round(math.sqrt(area * ratio))))
    top = rng.integers(pixels.shape[0] - height + 1)
    left = rng.integers(pixels.shape[1] - width + 1)
    side = augmentation.crop_size
    image = cv2.resize(pixels[top : top + height, left : left + width], (side, side))
    if rng.random() < augmentation.flip_probability:
        image = cv2.flip(image, 1)
    if rng.random() < augmentation.jitter_probability:
        image = _plain_jitter(image, augmentation, rng)
    values = image.astype(np.float32)
    values -= np.array(IMAGENET_MEAN, np.float32) * 255
    values *= 1 / (np.array(IMAGENET_STD, np.float32) * 255)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def _plain_jitter(image: MatLike, augmentation: Augmentation, rng: np.random.Generator) -> MatLike:
    def factor(strength: float) -> float:
        return float(rng.uniform(1 - strength, 1 + strength))

    def brightness(image: MatLike) -> MatLike:
        table = np.arange(256) * factor(augmentation.brightness)
        return cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8))

    def contrast(image: MatLike) -> MatLike:
        scale, mean = factor(augmentation.contrast), cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean()
        table = np.arange(256) * scale + mean * (1 - scale)
        return cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8))

    def saturation(image: MatLike) -> MatLike:
        scale, gray = factor(augmentation.saturation), cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return cv2.addWeighted(image, scale, cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), 1 - scale, 0)

    def hue(image: MatLike) -> MatLike:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        table = (np.arange(256) + 180 * rng.uniform(-augmentation.hue, augmentation.hue)) % 180
        hsv[..., 0] = cv2.LUT(hsv[..., 0], table.astype(np.uint8))
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)

    changes: list[Callable[[MatLike], MatLike]] = [brightness, contrast, saturation, hue]
    for index in rng.permutation(len(changes)):
        image = changes[index](image)
    return image


def plain_loader(
    dataset: PlainDataset, batch_size: int, num_workers: int, pin_memory: bool = False
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches of images ``(batch, 3, side, side)`` float32 and of padded captions."""
    return DataLoader(
        dataset, batch_size, num_workers=num_workers, pin_memory=pin_memory, collate_fn=_collate
    )


def _collate(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    images, tokens = zip(*samples, strict=True)
    return torch.stack(images), pad_sequence(list(tokens), batch_first=True)
