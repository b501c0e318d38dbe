"""Photographs and captions as many as wanted, so that anyone can measure without any.

The strength of a photograph's detail falls as about 1/f^1.4 with its frequency f; noise of that
spectrum compresses like one. At quality 95 a picture of 640 x 480 has 150 kB; COCO's files have
163 kB on average (train2017.zip: 118,287 files, 18 GiB).

Captions are of words of two to four syllables, whose frequencies fall as 1/rank (Zipf's law): a million
captions use some thirty thousand of them, about as many as the captions of COCO.
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from components.data.image import Pixels, encode_jpeg
from components.sources.readers.types import CaptionedImage

JPEG_QUALITY = 95
_FALL = 1.4
_SPREADS = (50.0, 12.0, 12.0)  # grey levels: brightness, two chromas
_MEANS = (115.0, 128.0, 128.0)
_WORDS = "a the dog cat bus left right of on red bench two people street"


def draw_photographs(folder: Path, count: int, height: int, width: int) -> list[CaptionedImage]:
    """Write ``count`` JPEG files, each with five captions of ten words or so, the same every time."""
    images = []
    for number in range(count):
        rng = np.random.default_rng((7, number))
        path = folder / f"{number:012d}.jpg"
        path.write_bytes(encode_jpeg(cloud(height, width, rng), JPEG_QUALITY))
        captions = tuple(" ".join(rng.choice(_WORDS.split(), int(rng.integers(8, 14)))) for _ in range(5))
        images.append(CaptionedImage(f"drawn/{number}", "drawn", path, captions))
    return images


def cloud(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Return coloured noise of a photograph's spectrum."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf  # the mean is set below
    planes = []
    for mean, spread in zip(_MEANS, _SPREADS, strict=True):
        noise = rng.normal(size=(2, *frequency.shape))
        plane = np.fft.irfft2((noise[0] + 1j * noise[1]) / frequency**_FALL, (height, width))
        planes.append(mean + spread * plane / plane.std())
    pixels = np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8)
    return cv2.cvtColor(pixels, cv2.COLOR_YCrCb2RGB).astype(np.uint8, copy=False)


_CONSONANTS, _VOWELS = "bcdfghklmnprstvw", "aeiou"
_NUM_WORDS = 30_000
_BLOCK = 10_000  # captions drawn at once
_LENGTHS = (8, 14)  # words: at least, and fewer than


def draw_captions(count: int) -> Iterator[str]:
    """Yield ``count`` captions, normalised, the same every time."""
    rng = np.random.default_rng(11)
    words = _draw_words(rng)
    shares = 1 / np.arange(1, _NUM_WORDS + 1)
    shares /= shares.sum()
    for start in range(0, count, _BLOCK):
        lengths = rng.integers(*_LENGTHS, min(_BLOCK, count - start))
        chosen = words[rng.choice(_NUM_WORDS, lengths.sum(), p=shares)]
        for caption in np.split(chosen, np.cumsum(lengths)[:-1]):
            yield " ".join(caption)


def _draw_words(rng: np.random.Generator) -> np.ndarray:
    syllables = np.array([first + second for first in _CONSONANTS for second in _VOWELS])
    words: dict[str, None] = {}
    while len(words) < _NUM_WORDS:
        words["".join(rng.choice(syllables, int(rng.integers(2, 5))))] = None
    return np.array(list(words))
