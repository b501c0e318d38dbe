"""Small pictures and stores for the tests of components.data."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.data.build import build_store
from components.data.record import StoreForm
from components.data.store import CaptionStore
from components.data.targets import MakeTargets, make_targets
from components.params import Augmentation
from components.sources.readers.types import CaptionedImage

MakeImages = Callable[..., list[CaptionedImage]]


@pytest.fixture
def make_images(tmp_path: Path) -> MakeImages:
    """A function that writes ``count`` noisy JPEG pictures of rising width and says what they show.

    Picture ``i`` is labelled 1 where i is even and 2 where it is a multiple of 3.
    """

    def make(count: int, height: int = 40) -> list[CaptionedImage]:
        rng = np.random.default_rng(count)
        folder = tmp_path / "pictures"
        folder.mkdir(exist_ok=True)
        images = []
        for index in range(count):
            path = folder / f"{index:03}.jpg"
            coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((48 + index, height), Image.Resampling.BICUBIC).save(
                path, quality=90
            )
            captions = (f"picture {index} on the left", f"A second caption of {index}")
            labels = tuple(label for label, every in ((1, 2), (2, 3)) if index % every == 0)
            images.append(CaptionedImage(f"world/{index}", "world", path, captions, labels))
        return images

    return make


@pytest.fixture
def store(tmp_path: Path, make_images: MakeImages) -> CaptionStore:
    """A store of ten pictures."""
    path = tmp_path / "ten.lmdb"
    build_store(path, make_images(10), StoreForm(categories=("even", "triple")), num_workers=2)
    return CaptionStore(path)


class Letters:
    """A tokenizer with one token a letter."""

    vocab_size = 140

    def caption_tokens(self, text: str, max_length: int) -> list[int]:
        return [1, *(4 + ord(letter) for letter in text), 2][:max_length]


@pytest.fixture
def letters() -> Letters:
    return Letters()


@pytest.fixture
def targets(letters: Letters) -> MakeTargets:
    """Bicaptioning's, sixteen letters of a caption."""
    return make_targets("bicaptioning", letters, 16)


@pytest.fixture
def augmentation() -> Augmentation:
    """The paper's augmentation with small crops."""
    return Augmentation(
        crop_size=32,
        crop_scale=(0.2, 1.0),
        crop_ratio=(0.75, 4 / 3),
        flip_probability=0.5,
        jitter_probability=0.8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
    )
