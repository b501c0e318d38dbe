"""Pixels as the annotations of boxes mean them, and chance that belongs to images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from components.benchmarks.detection.data import DetectionImage
from components.benchmarks.detection.samples import Draws, _Sampler, read_pixels
from components.core.errors import InputError


def photograph(path: Path, height: int, width: int, orientation: int) -> Path:
    """White at the top left of what is stored."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif.tobytes(), quality=95)
    return path


def image(path: Path, height: int, width: int) -> DetectionImage:
    return DetectionImage(1, path, width, height, ())


def test_the_size_in_an_annotation_tells_how_the_picture_was_seen(tmp_path: Path) -> None:
    path = photograph(tmp_path / "turned.jpg", 40, 60, 6)  # upright: white at the top right
    stored, upright = (read_pixels(image(path, *size)) for size in ((40, 60), (60, 40)))
    assert stored.shape == (40, 60, 3)
    assert stored[:15, :25].min() > 200 > 50 > stored[:15, 35:].max()
    assert upright.shape == (60, 40, 3)
    assert upright[:25, 25:].min() > 200 > 50 > upright[:25, :15].max()
    with pytest.raises(InputError, match=r"turned\.jpg: is 60 x 40 pixels, but its annotation says 60 x 50"):
        read_pixels(image(path, 50, 60))


def test_where_the_size_does_not_tell_it_is_upright_as_in_detectron2(tmp_path: Path) -> None:
    pixels = read_pixels(image(photograph(tmp_path / "half.jpg", 40, 60, 3), 40, 60))
    assert pixels[25:, 35:].min() > 200 > 50 > pixels[:15].max()


def test_an_image_draws_the_same_whoever_its_neighbours_are() -> None:
    labels = [torch.randint(-1, 2, (200,), generator=torch.Generator().manual_seed(i)) for i in range(4)]

    def choose(chosen: list[int]) -> list[tuple[list[int], list[int]]]:
        draws = Draws(0)
        draws.begin(chosen, torch.device("cpu"))
        positives, negatives = _Sampler(draws, 16, 0.25, is_rpn=False)([labels[i] for i in chosen])
        assert int(draws.objects) == 4 * len(chosen)
        assert int(draws.regions) == 16 * len(chosen)
        return [
            (torch.where(one)[0].tolist(), torch.where(other)[0].tolist())
            for one, other in zip(positives, negatives, strict=True)
        ]

    together = choose([0, 1, 2, 3])
    assert choose([0, 2]) + choose([1, 3]) == [together[i] for i in (0, 2, 1, 3)]
    assert all((labels[0][one] == 1) for one in together[0][0])
    assert all((labels[0][one] == 0) for one in together[0][1])
    assert together[0] != together[1]


def test_where_there_are_few_all_are_taken() -> None:
    draws = Draws(0)
    draws.begin([0], torch.device("cpu"))
    positives, negatives = _Sampler(draws, 8, 0.5, is_rpn=True)([torch.tensor([1, 0, 0, -1])])
    assert positives[0].tolist() == [1, 0, 0, 0]
    assert negatives[0].tolist() == [0, 1, 1, 0]
    assert int(draws.anchors) == 3
