"""Pixels and captions to what a model sees (paper, section 3.2; geometry as torchvision's).

Pixels are uint8 RGB arrays (height, width, 3). Training images stay so until they are on the device
(components.data.normalisation); others become float32 tensors (3, crop, crop) here. Random numbers come
from the generator that is passed in and from nowhere else, and how many are drawn does not depend on
the machine.

Crops are resized before they are flipped and coloured, with components.data.image.resize, whose
docstring says how. Colours are changed on uint8 pixels with those functions of OpenCV that take many
pixels an instruction (a table of 256 values does not): the four changes are torchvision's
ColorJitter, with its values within rounding and the 8-bit hue of Pillow, about fifteen times faster.
"""

import math
import re

import cv2
import numpy as np
import torch
from torch import Tensor

from components.core.errors import InputError
from components.data.image import Pixels, resize, resize_short_side
from components.data.normalisation import normalised
from components.params import Augmentation

_CROP_ATTEMPTS = 10
_LONGEST = 32  # times the shorter side; of the rest the middle is kept before it is enlarged
_SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)
_GRAY = np.array((0.299, 0.587, 0.114))  # shares of red, green and blue


class TrainTransform:
    """Random resized square crop, horizontal flip, colour jitter."""

    def __init__(self, augmentation: Augmentation) -> None:
        self.augmentation = augmentation

    def __call__(
        self, image: Pixels, caption: str, rng: np.random.Generator, crop_size: int | None = None
    ) -> tuple[Pixels, str]:
        """Return the pixels (crop_size, crop_size, 3) and the caption that fits them.

        Without ``crop_size`` it is the augmentation's; nothing that is drawn depends on it. A flipped image's
        caption has the words "left" and "right" exchanged.
        """
        choice = self.augmentation
        top, left, height, width = sample_crop(image.shape[:2], choice.crop_scale, choice.crop_ratio, rng)
        pixels = image[top : top + height, left : left + width]
        side = crop_size or choice.crop_size
        pixels = resize(pixels, side, side, choice.antialias)
        if rng.random() < choice.flip_probability:
            pixels, caption = cv2.flip(pixels, 1).astype(np.uint8, copy=False), swap_sides(caption)
        if rng.random() < choice.jitter_probability:
            pixels = self._jitter(pixels, rng)
        return pixels, caption

    def _jitter(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        choice = self.augmentation
        factors = [
            rng.uniform(max(0.0, 1 - strength), 1 + strength)
            for strength in (choice.brightness, choice.contrast, choice.saturation)
        ]
        factors.append(rng.uniform(-choice.hue, choice.hue))
        changes = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
        for index in rng.permutation(len(changes)):
            pixels = changes[index](pixels, factors[index])
        return pixels


class EvalTransform:
    """Shorter side to ``image_size``, centre crop of ``crop_size``, normalisation; nothing random.

    Without ``antialias`` pixels are, bit by bit, those of the authors' code (albumentations'
    SmallestMaxSize and CenterCrop): bilinear resizing that skips pixels where it shrinks, and a crop
    that lies half a pixel to the top left, not to the nearest even one, where the middle is between two.
    """

    def __init__(self, image_size: int, crop_size: int, antialias: bool = True) -> None:
        if not 0 < crop_size <= image_size:
            raise InputError(f"crop_size {crop_size} must be at least 1 and at most image_size {image_size}")
        self.image_size = image_size
        self.crop_size = crop_size
        self.antialias = antialias

    def __call__(self, image: Pixels) -> Tensor:
        """Return the image as a tensor (3, crop_size, crop_size)."""
        pixels = resize_short_side(middle(image), self.image_size, self.antialias)
        top, left = (self._start(length) for length in pixels.shape[:2])
        return normalise(pixels[top : top + self.crop_size, left : left + self.crop_size])

    def _start(self, length: int) -> int:
        rest = length - self.crop_size
        return round(rest / 2) if self.antialias else rest // 2


def middle(image: Pixels) -> Pixels:
    """Return the middle part of an image that is very thin; others as they are.

    Enlarged to a shorter side of 256, a line of 20,000 pixels would have 1.3 billion.
    """
    longest = _LONGEST * min(image.shape[:2])
    top, left = (max(0, length - longest) // 2 for length in image.shape[:2])
    return image[top : top + longest, left : left + longest]


def normalise(pixels: Pixels) -> Tensor:
    """Return float32 tensor (3, height, width) with the ImageNet mean and standard deviation taken out."""
    return normalised(torch.from_numpy(np.ascontiguousarray(pixels))[None])[0]


def sample_crop(
    size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a random crop, distributed as torchvision's RandomResizedCrop.

    Args:
        size: height and width of the image.
        scale: smallest and largest share of the image's area.
        ratio: smallest and largest width / height, drawn on a logarithmic scale.
        rng: the source of chance.
    """
    image_height, image_width = size
    for _ in range(_CROP_ATTEMPTS):
        area = image_height * image_width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= image_width and 0 < height <= image_height:
            top = int(rng.integers(image_height - height + 1))
            left = int(rng.integers(image_width - width + 1))
            return top, left, height, width
    aspect = min(max(image_width / image_height, ratio[0]), ratio[1])
    width = max(1, min(image_width, round(image_height * aspect)))
    height = max(1, min(image_height, round(image_width / aspect)))
    return (image_height - height) // 2, (image_width - width) // 2, height, width


def swap_sides(caption: str) -> str:
    """Exchange the whole words "left" and "right", keeping lower, upper or title case."""
    return _SIDE.sub(_other_side, caption)


def _other_side(match: re.Match[str]) -> str:
    word = match.group()
    other = "right" if word.lower() == "left" else "left"
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other


def adjust_brightness(pixels: Pixels, factor: float) -> Pixels:
    """Scale all values by ``factor``, which is at least 0."""
    return cv2.convertScaleAbs(pixels, alpha=factor).astype(np.uint8, copy=False)


def adjust_contrast(pixels: Pixels, factor: float) -> Pixels:
    """Move all values away from the image's mean gray (above 1) or towards it (below 1)."""
    mean = float(_GRAY @ cv2.mean(pixels)[:3])
    return cv2.addWeighted(pixels, factor, pixels, 0.0, mean * (1 - factor)).astype(np.uint8, copy=False)


def adjust_saturation(pixels: Pixels, factor: float) -> Pixels:
    """Move every pixel away from its own gray (above 1) or towards it (below 1)."""
    matrix = factor * np.eye(3) + (1 - factor) * _GRAY
    return cv2.transform(pixels, matrix.astype(np.float32)).astype(np.uint8, copy=False)


def adjust_hue(pixels: Pixels, shift: float) -> Pixels:
    """Turn the hue by ``shift`` of a full circle, -0.5 to 0.5."""
    steps = round(shift * 256)
    if steps == 0:
        return pixels
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV_FULL)
    row = np.zeros(pixels.shape[1:], np.uint8)
    row[:, 0] = steps % 256
    hsv += row  # to whole rows, which is faster; it wraps around, as a circle does
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL).astype(np.uint8, copy=False)
