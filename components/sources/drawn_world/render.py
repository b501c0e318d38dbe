"""Painting a composed scene."""

import numpy as np

from components.sources.drawn_world.backgrounds import draw_background
from components.sources.drawn_world.looks import paint, shade
from components.sources.drawn_world.scene import Placed, Scene


def render(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Paint the scene, (height, width, 3) uint8 RGB."""
    colours = {placed.look.colour for placed in scene.everything}
    picture = draw_background(scene.background, scene.size, colours, rng).copy()
    for placed in scene.everything:
        _paint_over(picture, placed, rng)
    light = rng.uniform(0.88, 1.08)
    grain = rng.standard_normal(scene.size, dtype=np.float32)[..., None] * np.float32(rng.uniform(1, 3.5))
    return np.clip(picture * np.float32(light) + grain, 0, 255).astype(np.uint8)


def _paint_over(picture: np.ndarray, placed: Placed, rng: np.random.Generator) -> None:
    sprite, look = placed.sprite, placed.look
    tone = shade(look.colour, rng)
    surface = paint(look.texture, tone, placed.radius, sprite.coverage.shape, rng)
    rows, columns, own_rows, own_columns = sprite.window(picture.shape[:2])
    coverage = sprite.coverage[own_rows, own_columns].astype(np.float32)[..., None] / 255
    under = picture[rows, columns]
    under += (surface[own_rows, own_columns] - under) * coverage
