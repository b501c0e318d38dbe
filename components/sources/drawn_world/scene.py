"""A scene: objects on a canvas from back to front, what of each can be seen, and how they relate."""

from dataclasses import dataclass, field

import numpy as np

from components.sources.drawn_world.shapes import RADIUS_RANGE, Look
from components.sources.drawn_world.sprites import Sprite, box_of, draw_sprite


@dataclass(slots=True)
class Placed:
    """One object on the canvas.

    Attributes:
        look: its shape, colour, texture and size.
        sprite: its pixels.
        radius: half its extent, in pixels.
        whole: (height, width) bool, its part on the canvas as if nothing were in front.
        visible: (height, width) bool, what is really seen of it.
        area: pixels of the whole shape, those outside the canvas included.
    """

    look: Look
    sprite: Sprite
    radius: float
    whole: np.ndarray
    visible: np.ndarray
    area: int

    @property
    def visible_share(self) -> float:
        """The share of the whole shape that is seen, 0 to 1."""
        return float(np.count_nonzero(self.visible)) / self.area

    @property
    def truncated(self) -> bool:
        """Return whether the shape sticks out of the canvas."""
        return int(np.count_nonzero(self.whole)) < self.area


@dataclass(slots=True)
class Crowd:
    """Many small things of one kind, annotated as one region."""

    look: Look
    members: list[Placed] = field(default_factory=list)

    @property
    def visible(self) -> np.ndarray:
        """(height, width) bool, the union of what is seen of its members."""
        return np.logical_or.reduce([member.visible for member in self.members])


@dataclass(slots=True)
class Scene:
    """A canvas with objects from back to front, perhaps a crowd behind them all.

    Attributes:
        size: height and width in pixels.
        background: one of BACKGROUNDS.
        objects: from back to front.
        crowd: the crowd, or None.
    """

    size: tuple[int, int]
    background: str
    objects: list[Placed] = field(default_factory=list)
    crowd: Crowd | None = None

    @property
    def everything(self) -> list[Placed]:
        """All that is drawn, from back to front."""
        return (self.crowd.members if self.crowd else []) + self.objects

    def put_in_front(self, placed: Placed) -> None:
        """Put an object in front of everything, hiding what is behind it."""
        for other in self.everything:
            other.visible &= ~placed.whole
        self.objects.append(placed)


def make_placed(
    look: Look, centre: tuple[float, float], radius: float, size: tuple[int, int], rng: np.random.Generator
) -> Placed:
    """Draw one object at ``centre`` (x, y) on a canvas of ``size`` (height, width)."""
    sprite = draw_sprite(look.shape, centre, radius, rng)
    whole = sprite.mask(size)
    return Placed(look, sprite, radius, whole, whole.copy(), sprite.area)


def draw_radius(look: Look, short_side: int, rng: np.random.Generator) -> float:
    """Return a radius in pixels that deserves the look's size word."""
    return rng.uniform(*RADIUS_RANGE[look.size]) * short_side


def centre_of(placed: Placed) -> tuple[float, float]:
    """Return the centre (x, y) of the box around what is seen."""
    x, y, width, height = box_of(placed.visible)
    return x + width / 2, y + height / 2


APART = 0.2  # of the shorter side: least distance of the centres along the relation's axis
HIDDEN = 0.06  # of the back object's shape: least part that the front object hides

OPPOSITE = {"left": "right", "above": "below", "behind": "front"}


@dataclass(frozen=True, slots=True)
class Relation:
    """``first`` is ``kind`` (left, right, above, below, behind, front) of ``second``."""

    kind: str
    first: Placed
    second: Placed


def relations_of(scene: Scene) -> list[Relation]:
    """Return all plainly true relations, each with its opposite.

    Left, right, above and below compare the centres of the boxes around what is seen: they must be
    ``APART`` along that axis and at least as far along it as along the other. Behind and in front
    need the front object to hide ``HIDDEN`` of the other one's shape by itself.
    """
    found: list[Relation] = []
    margin = APART * min(scene.size)
    for index, first in enumerate(scene.objects):
        for other in scene.objects[index + 1 :]:
            (x0, y0), (x1, y1) = centre_of(first), centre_of(other)
            dx, dy = x1 - x0, y1 - y0
            if abs(dx) >= margin and abs(dx) >= abs(dy):
                found.append(Relation("left", *((first, other) if dx > 0 else (other, first))))
            if abs(dy) >= margin and abs(dy) >= abs(dx):
                found.append(Relation("above", *((first, other) if dy > 0 else (other, first))))
            if int(np.count_nonzero(first.whole & other.whole)) >= HIDDEN * first.area:
                found.append(Relation("behind", first, other))
    return found + [Relation(OPPOSITE[r.kind], r.second, r.first) for r in found]


def places_of(placed: Placed, size: tuple[int, int]) -> list[str]:
    """Return the thirds of a canvas of ``size`` (height, width) that the centre lies in; at least one."""
    x, y = centre_of(placed)
    height, width = size
    places = []
    if x < width / 3:
        places.append("left")
    if x > width * 2 / 3:
        places.append("right")
    if y < height / 3:
        places.append("top")
    if y > height * 2 / 3:
        places.append("bottom")
    return places or ["middle"]
