"""Turning a shape into pixels: one object's coverage, placed on the canvas."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from components.sources.drawn_world.shapes import SHAPE_BY_NAME

SUPERSAMPLING = 4
INSIDE = 128  # coverage (of 255) from which a pixel belongs to the object's mask


@dataclass(frozen=True, slots=True)
class Sprite:
    """One shape drawn in its own rectangle, which may stick out of the canvas.

    Attributes:
        left, top: canvas pixel of the rectangle's first pixel; may be negative.
        coverage: (height, width) uint8, share of each pixel covered, 255 is all of it.
    """

    left: int
    top: int
    coverage: np.ndarray

    @property
    def area(self) -> int:
        """Pixels of the whole shape, those outside the canvas included."""
        return int(np.count_nonzero(self.coverage >= INSIDE))

    def window(self, size: tuple[int, int]) -> tuple[slice, slice, slice, slice]:
        """Rows and columns on a canvas of ``size`` (height, width), then rows and columns of the sprite."""
        height, width = self.coverage.shape
        y0, y1 = max(self.top, 0), min(self.top + height, size[0])
        x0, x1 = max(self.left, 0), min(self.left + width, size[1])
        y1, x1 = max(y0, y1), max(x0, x1)
        return (
            slice(y0, y1), slice(x0, x1),
            slice(y0 - self.top, y1 - self.top), slice(x0 - self.left, x1 - self.left),
        )  # fmt: skip

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """The part on a canvas of ``size`` (height, width), bool."""
        rows, columns, own_rows, own_columns = self.window(size)
        mask = np.zeros(size, dtype=bool)
        mask[rows, columns] = self.coverage[own_rows, own_columns] >= INSIDE
        return mask


def draw_sprite(
    shape_name: str, centre: tuple[float, float], radius: float, rng: np.random.Generator
) -> Sprite:
    """Draw a shape in a random pose: slightly turned, stretched, perhaps mirrored.

    Args:
        shape_name: a name in SHAPES.
        centre: x and y in canvas pixels.
        radius: half the shape's extent, in pixels.
        rng: the scene's random numbers.
    """
    shape = SHAPE_BY_NAME[shape_name]
    turn = np.deg2rad(rng.uniform(-10, 10))
    quarter = rng.integers(4)
    if shape.any_direction:
        turn += quarter * np.pi / 2
    stretch = rng.uniform(0.94, 1.06)
    mirror = rng.choice((-1.0, 1.0))
    pose = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    pose = np.diag([mirror * stretch, 1 / stretch]) @ pose * radius
    outline = shape.outline @ pose + centre
    left, top = np.floor(outline.min(axis=0)).astype(int)
    right, bottom = np.ceil(outline.max(axis=0)).astype(int) + 1

    canvas = Image.new("L", ((right - left) * SUPERSAMPLING, (bottom - top) * SUPERSAMPLING))
    pen = ImageDraw.Draw(canvas)
    pen.polygon(_fine(outline, left, top), fill=255)
    if shape.hole is not None:
        pen.polygon(_fine(shape.hole @ pose + centre, left, top), fill=0)
    return Sprite(int(left), int(top), np.asarray(canvas.reduce(SUPERSAMPLING)))


def _fine(points: np.ndarray, left: int, top: int) -> list[float]:
    return ((points - [left, top]) * SUPERSAMPLING - 0.5).ravel().tolist()
