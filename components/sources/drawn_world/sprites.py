"""A shape in pixels on the canvas, and masks as boxes, polygons and run lengths, as COCO has them."""

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
        """Return rows and columns on a canvas of ``size`` (height, width), then those of the sprite."""
        height, width = self.coverage.shape
        y0, y1 = max(self.top, 0), min(self.top + height, size[0])
        x0, x1 = max(self.left, 0), min(self.left + width, size[1])
        y1, x1 = max(y0, y1), max(x0, x1)
        return (
            slice(y0, y1), slice(x0, x1),
            slice(y0 - self.top, y1 - self.top), slice(x0 - self.left, x1 - self.left),
        )  # fmt: skip

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """Return the part on a canvas of ``size`` (height, width), bool."""
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


Vertex = tuple[int, int]


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the tight box of a (height, width) bool mask as x, y, width, height in pixels (0 if empty)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1


def run_lengths(mask: np.ndarray) -> list[int]:
    """Return uncompressed COCO run lengths of a (height, width) bool mask: columns first, zeros first."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()


def polygons_of(mask: np.ndarray) -> list[list[int]]:
    """Return polygons [x, y, x, y, ...] along pixels' edges whose union, rasterised by COCO, is the mask.

    Separate parts give separate polygons. COCO's polygons know no holes, so that a part with a hole
    is cut in two along a column through it.
    """
    left, top, width, height = box_of(mask)
    polygons = _trace(mask[top : top + height, left : left + width])
    return [[value + (top if at % 2 else left) for at, value in enumerate(polygon)] for polygon in polygons]


def _trace(mask: np.ndarray) -> list[list[int]]:
    loops = _boundary_loops(mask)
    for loop in loops:
        if _signed_area(loop) < 0:
            column = (min(x for x, _ in loop) + max(x for x, _ in loop)) // 2
            left, right = mask.copy(), mask.copy()
            left[:, column:] = False
            right[:, :column] = False
            if not left.any() or not right.any():
                raise AssertionError("a hole has no two sides")
            return _trace(left) + _trace(right)
    return [[value for vertex in loop for value in vertex] for loop in loops]


def _boundary_loops(mask: np.ndarray) -> list[list[Vertex]]:
    """Return corners of all boundaries, the inside on the right: outer ones clockwise on the screen."""
    onward = _boundary_edges(mask)
    loops = []
    while onward:
        start = next(iter(onward))
        loop: list[Vertex] = []
        at, direction = start, onward[start][0]
        while True:
            _leave(onward, at, direction)
            loop.append(at)
            at = (at[0] + direction[0], at[1] + direction[1])
            ways = onward.get(at, [])
            clockwise = (-direction[1], direction[0])  # at a corner shared by two parts, stay with this part
            if at == start and clockwise not in ways:
                break
            direction = clockwise if clockwise in ways else ways[0]
        loops.append(_corners(loop))
    return loops


def _boundary_edges(mask: np.ndarray) -> dict[Vertex, list[Vertex]]:
    """Return the unit steps that leave every boundary vertex."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    sides = (
        (inside & ~padded[:-2, 1:-1], (0, 0), (1, 0)),
        (inside & ~padded[1:-1, 2:], (1, 0), (0, 1)),
        (inside & ~padded[2:, 1:-1], (1, 1), (-1, 0)),
        (inside & ~padded[1:-1, :-2], (0, 1), (0, -1)),
    )
    onward: dict[Vertex, list[Vertex]] = {}
    for cells, (dx, dy), direction in sides:
        rows, columns = np.nonzero(cells)
        for x, y in zip((columns + dx).tolist(), (rows + dy).tolist(), strict=True):
            onward.setdefault((x, y), []).append(direction)
    return onward


def _leave(onward: dict[Vertex, list[Vertex]], at: Vertex, direction: Vertex) -> None:
    onward[at].remove(direction)
    if not onward[at]:
        del onward[at]


def _corners(loop: list[Vertex]) -> list[Vertex]:
    """Return the vertices at which the way turns."""
    before, after = loop[-1:] + loop[:-1], loop[1:] + loop[:1]
    return [
        here
        for last, here, following in zip(before, loop, after, strict=True)
        if (here[0] - last[0], here[1] - last[1]) != (following[0] - here[0], following[1] - here[1])
    ]


def _signed_area(loop: list[Vertex]) -> float:
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(loop, loop[1:] + loop[:1], strict=True)) / 2
