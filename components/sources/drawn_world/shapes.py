"""What an object looks like: its shape, and besides it colour, texture and size, which do not tell it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Points = np.ndarray  # (num_points, 2) float64, x to the right and y down, within the unit disc


@dataclass(frozen=True, slots=True)
class Shape:
    """One class of things.

    Attributes:
        name: a single English noun.
        plural: its plural.
        outline: the closed outer outline.
        hole: the outline of its one hole, or None.
        any_direction: whether it may point in all four directions without changing its name.
        family: a coarse group; iNaturalist's supercategory.
        definition: one line for LVIS.
    """

    name: str
    plural: str
    outline: Points
    family: str
    definition: str
    hole: Points | None = None
    any_direction: bool = False


def _polar(radius: Callable[[np.ndarray], np.ndarray], num_points: int = 48) -> Points:
    angle = np.arange(num_points) * (2 * np.pi / num_points) - np.pi / 2
    length = radius(angle + np.pi / 2)
    return np.stack([length * np.cos(angle), length * np.sin(angle)], axis=1)


def _regular(num_corners: int, radius: float = 1.0) -> Points:
    return _polar(lambda angle: np.full_like(angle, radius), num_corners)


def _table(*points: tuple[float, float]) -> Points:
    return np.array(points, dtype=np.float64)


def _star() -> Points:
    return _polar(lambda angle: np.where(np.arange(len(angle)) % 2 == 0, 1.0, 0.42), 10)


def _cross(arm: float = 0.3, reach: float = 0.92) -> Points:
    quarter = [(-arm, -reach), (arm, -reach), (arm, -arm)]
    turn = np.array([[0, 1], [-1, 0]])
    return np.concatenate([np.array(quarter) @ np.linalg.matrix_power(turn, k) for k in range(4)])


def _heart() -> Points:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y - 2.5], axis=1) / 16.5


def _crescent() -> Points:
    tip = np.deg2rad(50)
    outer = np.linspace(tip, 2 * np.pi - tip, 30)
    centre = 0.55
    inner_radius = np.hypot(np.cos(tip) - centre, np.sin(tip))
    start = np.arctan2(-np.sin(tip), np.cos(tip) - centre)
    inner = np.linspace(start + 2 * np.pi, -start, 24)[1:-1]
    points = np.concatenate(
        [
            np.stack([np.cos(outer), np.sin(outer)], axis=1),
            np.stack([centre + inner_radius * np.cos(inner), inner_radius * np.sin(inner)], axis=1),
        ]
    )
    return points + np.array([0.15, 0.0])


_SQUARE = _regular(4) @ np.array([[1, 1], [-1, 1]]) / 2**0.5
_TRIANGLE = _regular(3) + np.array([0.0, 0.2])
_DIAMOND = _table((0, -1), (0.62, 0), (0, 1), (-0.62, 0))
_ARROW = _table(
    (-0.95, -0.26), (0.1, -0.26), (0.1, -0.75), (1, 0), (0.1, 0.75), (0.1, 0.26), (-0.95, 0.26)
)  # fmt: skip
_FLOWER = _polar(lambda angle: 0.72 + 0.28 * np.cos(5 * angle), 60)
_HOUSE = _table(
    (0, -0.95), (0.85, -0.15), (0.62, -0.15), (0.62, 0.8), (-0.62, 0.8), (-0.62, -0.15), (-0.85, -0.15)
)  # fmt: skip
_RING, _RING_HOLE = _regular(48, 0.95), _regular(40, 0.52)

SHAPES: tuple[Shape, ...] = (
    Shape("circle", "circles", _regular(48, 0.92), "Round", "a round plane figure without corners"),
    Shape("square", "squares", _SQUARE, "Cornered", "a figure with four equal sides and four right angles"),
    Shape("triangle", "triangles", _TRIANGLE, "Cornered", "a figure with three straight sides"),
    Shape("star", "stars", _star(), "Cornered", "a figure with five points"),
    Shape("cross", "crosses", _cross(), "Cornered", "two bars that meet at right angles"),
    Shape("ring", "rings", _RING, "Round", "a round band with an empty middle", hole=_RING_HOLE),
    Shape("heart", "hearts", _heart(), "Curved", "a figure with two lobes and a point"),
    Shape("crescent", "crescents", _crescent(), "Curved", "the figure of a young moon", any_direction=True),
    Shape("diamond", "diamonds", _DIAMOND, "Cornered", "a tall rhombus standing on a corner"),
    Shape("arrow", "arrows", _ARROW, "Cornered", "a shaft with a pointed head", any_direction=True),
    Shape("flower", "flowers", _FLOWER, "Curved", "a figure with five round petals"),
    Shape("house", "houses", _HOUSE, "Cornered", "a block under a pointed roof"),
)

SHAPE_NAMES: tuple[str, ...] = tuple(shape.name for shape in SHAPES)
SHAPE_BY_NAME: dict[str, Shape] = {shape.name: shape for shape in SHAPES}


# All darker than any background: a network that learns for minutes finds shapes then by one kind of edge.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 36, 40),
    "green": (36, 158, 64),
    "blue": (36, 88, 214),
    "purple": (136, 50, 178),
    "black": (24, 24, 28),
}
COLOUR_NAMES = tuple(COLOURS)

TEXTURES = ("plain", "striped", "dotted", "checked")
TEXTURE_WEIGHTS = (0.85, 0.05, 0.05, 0.05)

SIZES = ("small", "medium", "large")
SIZE_WEIGHTS = (0.02, 0.38, 0.60)
RADIUS_RANGE: dict[str, tuple[float, float]] = {  # as a share of the picture's shorter side
    "tiny": (0.035, 0.045),
    "small": (0.15, 0.19),
    "medium": (0.26, 0.34),
    "large": (0.34, 0.44),
    "dominant": (0.34, 0.44),
}


@dataclass(frozen=True, slots=True)
class Look:
    """What a caption can say of one object; ``size`` is a key of RADIUS_RANGE."""

    shape: str
    colour: str
    texture: str
    size: str


def shade(colour: str, rng: np.random.Generator) -> np.ndarray:
    """Return one shade of a named colour, (3,) float32 in 0 to 255."""
    return np.clip(np.array(COLOURS[colour]) + rng.uniform(-16, 16, 3), 0, 255).astype(np.float32)


def second_tone(tone: np.ndarray) -> np.ndarray:
    """Return the other tone of a two-tone texture: lighter for dark colours, darker for light ones."""
    brightness = tone @ np.array([0.3, 0.59, 0.11], dtype=np.float32)
    return tone * 0.66 if brightness > 120 else tone + (255 - tone) * 0.38


def paint(
    texture: str, tone: np.ndarray, radius: float, size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """Paint a rectangle of ``size`` (height, width) pixels with a texture, (height, width, 3) float32.

    The pattern has a random direction and phase and a period of about half the radius.
    """
    height, width = size
    if texture == "plain":
        return np.broadcast_to(tone, (height, width, 3))
    period = max(4.0, radius * rng.uniform(0.48, 0.68))
    angle, shift_u, shift_v = rng.uniform(0, np.pi), rng.uniform(0, period), rng.uniform(0, period)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    u = (x * np.cos(angle) + y * np.sin(angle) + shift_u) * (2 * np.pi / period)
    if texture == "striped":
        wave = np.sin(u)
    else:
        v = (y * np.cos(angle) - x * np.sin(angle) + shift_v) * (2 * np.pi / period)
        wave = np.cos(u) + np.cos(v) - 0.75 if texture == "dotted" else 2 * np.sin(u / 1.3) * np.sin(v / 1.3)
    share = np.clip(0.5 + wave * (period / 6), 0, 1).astype(np.float32)[..., None]
    return tone + (second_tone(tone) - tone) * share
