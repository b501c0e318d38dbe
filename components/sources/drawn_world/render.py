"""Painting a composed scene: backgrounds (plain, shaded, cloudy or cluttered), then the objects."""

import numpy as np
from PIL import Image, ImageDraw

from components.sources.drawn_world.scene import Placed, Scene
from components.sources.drawn_world.shapes import COLOURS, paint, shade

BACKGROUNDS = ("plain", "shaded", "cloudy", "cluttered")
BACKGROUND_WEIGHTS = (0.54, 0.34, 0.10, 0.02)
CONTRAST = 120.0  # least RGB distance wanted between the background and the objects' colours


def draw_background(
    kind: str, size: tuple[int, int], colours: set[str], rng: np.random.Generator
) -> np.ndarray:
    """Draw one background.

    Args:
        kind: one of BACKGROUNDS.
        size: height and width in pixels.
        colours: the names of the objects' colours, which the background keeps away from.
        rng: the scene's random numbers.

    Returns:
        (height, width, 3) float32 in 0 to 255.
    """
    height, width = size
    base = _muted(colours, rng)
    picture = np.empty((height, width, 3), dtype=np.float32)
    picture[:] = base
    if kind == "plain":
        return picture
    other = base + (_muted(colours, rng) - base) * rng.uniform(0.4, 0.8)
    if kind == "cloudy":
        return picture + (other - base) * _blotches(height, width, rng)
    if kind == "shaded" or rng.random() < 0.5:
        picture += (other - base) * _ramp(height, width, rng)
    return _clutter(picture, rng) if kind == "cluttered" else picture


def _muted(colours: set[str], rng: np.random.Generator) -> np.ndarray:
    """Return the best of a few random light colours, far enough from all object colours, (3,) float32."""
    grey = rng.uniform(200, 245, (8, 1))
    candidates = grey + rng.uniform(-10, 10, (8, 3))
    named = np.array([COLOURS[name] for name in sorted(colours)])
    distance = np.linalg.norm(candidates[:, None] - named, axis=2).min(axis=1)
    far_enough = np.flatnonzero(distance >= CONTRAST)
    chosen = far_enough[0] if len(far_enough) else distance.argmax()
    return candidates[chosen].astype(np.float32)


def _ramp(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    ramp = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    ramp -= ramp.min()
    return (ramp / ramp.max())[..., None]


def _blotches(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    cells = int(rng.integers(6, 20))
    coarse = rng.integers(0, 256, (cells, cells), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(smooth, dtype=np.float32)[..., None] / 255


def _clutter(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw lines, arcs and specks in colours near the background's and in faded object colours."""
    height, width = picture.shape[:2]
    image = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    side = min(height, width)
    base = picture.mean(axis=(0, 1))
    palette = np.array(list(COLOURS.values()))

    def faded() -> tuple[int, int, int]:
        tone = base + (palette[rng.integers(len(palette))] - base) * rng.uniform(0.25, 0.6)
        red, green, blue = tone.astype(int).tolist()
        return red, green, blue

    for _ in range(rng.integers(4, 10)):
        ends = rng.uniform(0, 1, 4) * [width, height, width, height]
        pen.line(ends.tolist(), fill=faded(), width=int(rng.integers(1, max(2, side // 40) + 1)))
    for _ in range(rng.integers(10, 30)):
        x, y, radius = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.006, 0.022) * side
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=faded())
    for _ in range(rng.integers(1, 4)):
        x, y, radius = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.1, 0.4) * side
        start = rng.uniform(0, 360)
        pen.arc(
            [x - radius, y - radius, x + radius, y + radius],
            start,
            start + rng.uniform(40, 120),
            fill=faded(),
            width=max(1, side // 60),
        )
    return np.asarray(image, dtype=np.float32)


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
