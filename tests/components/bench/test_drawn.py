from pathlib import Path

import numpy as np

from components.bench.drawn import cloud, draw_captions, draw_photographs
from components.data.image import encode_jpeg
from components.text.tokenizer import normalise


def test_pictures_compress_like_photographs() -> None:
    pixels = cloud(480, 640, np.random.default_rng(0))
    assert pixels.shape == (480, 640, 3)
    assert 120e3 < len(encode_jpeg(pixels, 95)) < 190e3


def test_the_same_files_every_time(tmp_path: Path) -> None:
    first, second = (draw_photographs(tmp_path, 2, 40, 60) for _ in range(2))
    assert first == second
    assert len({image.path.read_bytes() for image in first}) == 2
    assert all(len(image.captions) == 5 for image in first)


def test_captions_are_normalised_and_the_same_every_time() -> None:
    captions = list(draw_captions(100))
    assert captions == list(draw_captions(100))
    assert len(set(captions)) == 100
    assert all(normalise(caption) == caption for caption in captions)
