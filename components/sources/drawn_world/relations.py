"""Which relations between two objects are plainly true."""

from dataclasses import dataclass

import numpy as np

from components.sources.drawn_world.scene import Placed, Scene, centre_of

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
    """All plainly true relations, each with its opposite.

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
    """Where on a canvas of ``size`` (height, width) the object's centre lies, in thirds; at least one."""
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
