"""Composition and geometry: depth, masks, boxes, polygons, run lengths, pictures."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from components.sources.drawn_world.compose import SEEN_SHARE, SceneStyle, compose
from components.sources.drawn_world.render import render
from components.sources.drawn_world.shapes import COLOURS, SHAPES
from components.sources.drawn_world.sprites import box_of, draw_sprite, polygons_of, run_lengths


def rasterised(polygons: list[list[int]], size: tuple[int, int]) -> np.ndarray:
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *size))).astype(bool)


def test_the_world_is_rich_enough():
    assert len({shape.name for shape in SHAPES}) >= 12
    assert len(COLOURS) >= 5


def test_polygons_of_any_mask_rasterise_to_it_exactly():
    rng = np.random.default_rng(0)
    for density in (0.1, 0.5, 0.6, 0.9):
        mask = rng.random((17, 23)) < density  # parts that touch at corners, holes within holes
        assert np.array_equal(rasterised(polygons_of(mask), mask.shape), mask)


def test_run_lengths_start_with_zeros_and_go_down_the_columns():
    mask = np.array([[1, 0], [1, 1]], dtype=bool)
    assert run_lengths(mask) == [0, 2, 1, 1]
    assert run_lengths(~mask) == [2, 1, 1]
    assert run_lengths(np.zeros((2, 3), bool)) == [6]


def test_box_is_tight():
    mask = np.zeros((9, 9), dtype=bool)
    mask[2:5, 3:4] = True
    assert box_of(mask) == (3, 2, 1, 3)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_shapes_fill_their_disc(shape):
    sprite = draw_sprite(shape.name, (50.0, 50.0), 40.0, np.random.default_rng(1))
    mask = sprite.mask((100, 100))
    assert np.count_nonzero(mask) == sprite.area
    assert 0.15 < sprite.area / (np.pi * 40**2) < 1.05
    _, _, width, height = box_of(mask)
    assert 50 < max(width, height) < 92


def test_the_ring_has_a_hole():
    mask = draw_sprite("ring", (50.0, 50.0), 40.0, np.random.default_rng(1)).mask((100, 100))
    assert not mask[50, 50]
    assert mask[50, 20]


@pytest.mark.parametrize("hard_share", [0.0, 1.0])
def test_objects_hide_each_other_by_depth(hard_share):
    hidden = 0
    for index in range(80):
        scene = compose(
            np.random.default_rng([5, index]), 64, SceneStyle(crowd_share=0.2, hard_share=hard_share)
        )
        assert 1 <= len(scene.objects) <= 6
        in_front = np.zeros(scene.size, dtype=bool)
        for placed in reversed(scene.everything):
            assert np.array_equal(placed.visible, placed.whole & ~in_front)
            in_front |= placed.whole
        hidden += sum(placed.visible_share < 0.95 for placed in scene.objects)
        if not hard_share:
            assert min(placed.visible_share for placed in scene.objects) >= SEEN_SHARE
    assert hidden > 20


def test_the_picture_shows_each_objects_colour():
    for index in range(20):
        rng = np.random.default_rng([6, index])
        scene = compose(rng, 96, SceneStyle())
        picture = render(scene, rng)
        assert picture.dtype == np.uint8
        assert picture.shape == (*scene.size, 3)
        for placed in scene.objects:
            if placed.look.texture == "plain":
                seen = np.median(picture[placed.visible], axis=0)
                nearest = min(COLOURS, key=lambda name: np.abs(seen - np.array(COLOURS[name])).sum())
                assert nearest == placed.look.colour
