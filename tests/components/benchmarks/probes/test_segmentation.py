"""Linear segmentation: figures worked out by hand on 2 x 2 pixels, and masks that a line can tell apart."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from components.benchmarks.probes.feature_maps import train_head
from components.benchmarks.probes.segmentation import (
    FIGURE,
    Square,
    areas,
    mean_iou,
    pixel_loss,
    predicted,
    small_masks,
)

MASK = np.array([[0, 1], [1, 255]], np.uint8)
TOLD = np.array([[0, 1], [0, 2]])  # the border is no mistake


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTEX_DEVICE", "cpu")


def test_intersections_and_unions_without_the_border() -> None:
    assert areas(TOLD, MASK, 3).tolist() == [[1, 1, 0], [2, 2, 0]]


def test_mean_over_the_classes_that_there_are() -> None:
    """Of two images, pixels of all count together: background 1 + 4 of 2 + 4, class 1 one of two."""
    blank = np.zeros((2, 2), np.uint8)
    found = np.stack([areas(TOLD, MASK, 3), areas(blank, blank, 3)])
    each_once, first_twice, second = np.array([[1, 2, 0], [1, 0, 2]], np.float32).T
    statistic = mean_iou(found)
    values = statistic(np.stack([each_once, first_twice, second], axis=1))[FIGURE]
    assert values == pytest.approx([100 * (5 / 6 + 1 / 2) / 2, 50, 100])


def test_loss_of_pixels_that_count() -> None:
    """Outputs of one pixel, ln 3 and 0, are those of all four: shares 3/4 and 1/4."""
    outputs = torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1)
    loss = pixel_loss(outputs, torch.from_numpy(MASK)[None])
    assert loss.item() == pytest.approx((math.log(4 / 3) + 2 * math.log(4)) / 3)
    assert pixel_loss(outputs, torch.full((1, 2, 2), 255, dtype=torch.uint8)).item() == 0


def test_outputs_are_enlarged_to_the_mask() -> None:
    """Bilinear between the middles of two pixels, 0 and 1: at eighths 1, 3, 5 and 7 of their distance."""
    features = np.array([[[0.0, 1.0]], [[0.6, 0.6]]], np.float32)  # (2, 1, 2): class 1 until 0.6
    assert predicted(nn.Identity(), features, (2, 4)).tolist() == [[1, 1, 0, 0]] * 2
    features[1] = 0.8
    assert predicted(nn.Identity(), features, (1, 4)).tolist() == [[1, 1, 1, 0]]


def test_masks_are_made_smaller_by_nearest_pixels(tmp_path: Path) -> None:
    mask = np.zeros((4, 6), np.uint8)
    mask[:2, :3] = 7
    Image.fromarray(mask).save(tmp_path / "a.png")
    assert small_masks([tmp_path / "a.png"], 2).tolist() == [[[7, 0], [0, 0]]]


def test_an_image_is_seen_whole() -> None:
    pixels = np.zeros((30, 90, 3), np.uint8)
    pixels[:, :30] = 255
    found = Square(48, antialias=True)(pixels)
    assert found.shape == (3, 48, 48)
    assert (found[:, :, :14] > 2).all()
    assert (found[:, :, 18:] < -1.7).all()


def test_what_a_line_can_tell_apart_is() -> None:
    """Maps whose channels rise a little where the class is 1."""
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (24, 3, 3)).astype(np.uint8)
    maps = rng.normal(0, 0.3, (24, 16, 3, 3)).astype(np.float32)
    maps += masks[:, None]

    def build() -> nn.Module:
        return nn.Sequential(nn.BatchNorm2d(16, affine=False), nn.Conv2d(16, 2, 1))

    head = train_head(build, maps[:16], torch.from_numpy(masks[:16]), pixel_loss, 80, 0.01, "toy")
    found = [areas(predicted(head, maps[i], (3, 3)), masks[i], 2) for i in range(16, 24)]
    assert mean_iou(np.stack(found))(np.ones((8, 1), np.float32))[FIGURE] == pytest.approx([100])
