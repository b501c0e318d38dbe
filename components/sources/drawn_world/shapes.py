"""The shapes of the drawn world: their names and their outlines in the unit disc."""

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
