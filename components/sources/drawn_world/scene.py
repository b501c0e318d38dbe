"""A scene: objects placed on a canvas from back to front, with what of each can be seen."""

from dataclasses import dataclass, field

import numpy as np

from components.sources.drawn_world.geometry import box_of
from components.sources.drawn_world.looks import RADIUS_RANGE, Look
from components.sources.drawn_world.sprites import Sprite, draw_sprite


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
        """Whether the shape sticks out of the canvas."""
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
    """A radius in pixels that deserves the look's size word."""
    return rng.uniform(*RADIUS_RANGE[look.size]) * short_side


def centre_of(placed: Placed) -> tuple[float, float]:
    """Centre (x, y) of the box around what is seen."""
    x, y, width, height = box_of(placed.visible)
    return x + width / 2, y + height / 2
