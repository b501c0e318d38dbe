"""Composing a scene: which objects, how they look, where they stand."""

from dataclasses import dataclass, replace

import numpy as np

from components.sources.drawn_world.render import BACKGROUND_WEIGHTS, BACKGROUNDS
from components.sources.drawn_world.scene import Crowd, Placed, Scene, draw_radius, make_placed
from components.sources.drawn_world.shapes import (
    COLOUR_NAMES,
    SHAPE_NAMES,
    SIZE_WEIGHTS,
    SIZES,
    TEXTURE_WEIGHTS,
    TEXTURES,
    Look,
)

SEEN_SHARE = 0.45  # of each object that must be seen
HIDDEN_SHARE = 0.12  # the same where mostly hidden objects are wanted
TRIES = 12


@dataclass(frozen=True, slots=True)
class SceneStyle:
    """What kind of scene a dataset wants.

    Attributes:
        count_weights: how often scenes of 1, 2, ... objects are wanted.
        crowd_share: share of scenes with a crowd.
        hard_share: share of scenes where objects may be mostly hidden, or tiny.
        subject_shape: the one dominant object's shape, or None for scenes without one.
        subject_texture: its texture; None for any.
        first_shape: the shape of the hindmost object in scenes without a subject; None for any.
    """

    count_weights: tuple[float, ...] = (0.46, 0.29, 0.15, 0.06, 0.04)
    crowd_share: float = 0.0
    hard_share: float = 0.0
    subject_shape: str | None = None
    subject_texture: str | None = None
    first_shape: str | None = None


def compose(rng: np.random.Generator, short_side: int, style: SceneStyle) -> Scene:
    """Compose a scene whose canvas has ``short_side`` pixels on its shorter side."""
    scene = Scene(_canvas(short_side, rng), str(rng.choice(BACKGROUNDS, p=BACKGROUND_WEIGHTS)))
    looks = _looks(style, rng)
    if rng.random() < style.crowd_share:
        free = [name for name in SHAPE_NAMES if name not in {look.shape for look in looks}]
        scene.crowd = _crowd(str(rng.choice(free)), scene.size, rng)
    hard = rng.random() < style.hard_share
    if style.subject_shape is not None:
        _place_subject(scene, _subject(style, rng), rng)
        seen = 0.8
    else:
        seen = HIDDEN_SHARE if hard else SEEN_SHARE
    for look in looks:
        _place(scene, look, seen, rng)
    if hard:
        tiny = Look(_any(SHAPE_NAMES, rng), _any(COLOUR_NAMES, rng), "plain", "tiny")
        _place(scene, tiny, seen, rng)
    return scene


def _canvas(short_side: int, rng: np.random.Generator) -> tuple[int, int]:
    ratio = rng.choice((1.0, 1.0, 1.0, 9 / 8, 4 / 3))
    long_side = round(short_side * float(ratio))
    return (short_side, long_side) if rng.random() < 0.6 else (long_side, short_side)


def _any(names: tuple[str, ...], rng: np.random.Generator) -> str:
    return names[int(rng.integers(len(names)))]


def _random_look(rng: np.random.Generator) -> Look:
    return Look(
        _any(SHAPE_NAMES, rng),
        _any(COLOUR_NAMES, rng),
        str(rng.choice(TEXTURES, p=TEXTURE_WEIGHTS)),
        str(rng.choice(SIZES, p=SIZE_WEIGHTS)),
    )


def _looks(style: SceneStyle, rng: np.random.Generator) -> list[Look]:
    """Return independent looks, sometimes with two or three of one kind, in random order."""
    count = int(rng.choice(len(style.count_weights), p=style.count_weights)) + 1
    if style.subject_shape is not None:
        others = [_random_look(rng) for _ in range(count - 1)]
        return [
            Look(look.shape, look.colour, look.texture, "small")
            for look in others
            if look.shape != style.subject_shape
        ]
    looks = [_random_look(rng) for _ in range(count)]
    if style.first_shape is not None:
        return [replace(looks[0], shape=style.first_shape), *looks[1:]]
    if count >= 2 and rng.random() < 0.4:
        first = looks[0]
        for index in range(1, int(rng.integers(2, min(count, 3) + 1))):
            colour = first.colour if rng.random() < 0.7 else looks[index].colour
            looks[index] = Look(first.shape, colour, first.texture, looks[index].size)
    return [looks[index] for index in rng.permutation(count)]


def _subject(style: SceneStyle, rng: np.random.Generator) -> Look:
    look = _random_look(rng)
    shape, texture = style.subject_shape or look.shape, style.subject_texture or look.texture
    return Look(shape, look.colour, texture, "dominant")


def _place_subject(scene: Scene, look: Look, rng: np.random.Generator) -> None:
    height, width = scene.size
    radius = draw_radius(look, min(scene.size), rng)
    centre = (rng.uniform(0.38, 0.62) * width, rng.uniform(0.38, 0.62) * height)
    scene.put_in_front(make_placed(look, centre, radius, scene.size, rng))


def _place(scene: Scene, look: Look, seen: float, rng: np.random.Generator) -> None:
    """Put an object in front where enough of everything stays seen; after some tries, leave it out.

    The first object of a scene is always put.
    """
    height, width = scene.size
    radius = draw_radius(look, min(scene.size), rng)
    crowding = 0.8 if seen < SEEN_SHARE else 0.33
    neighbour = None
    if scene.objects and rng.random() < crowding:
        neighbour = scene.objects[int(rng.integers(len(scene.objects)))]
    for attempt in range(TRIES):
        if neighbour is not None and attempt < TRIES // 2:
            angle, closeness = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 0.95)
            reach = (radius + neighbour.radius) * (closeness if seen >= SEEN_SHARE else closeness * 0.7)
            x = neighbour.sprite.left + neighbour.sprite.coverage.shape[1] / 2 + reach * np.cos(angle)
            y = neighbour.sprite.top + neighbour.sprite.coverage.shape[0] / 2 + reach * np.sin(angle)
        else:
            x = rng.uniform(0.75 * radius, width - 0.75 * radius)
            y = rng.uniform(0.75 * radius, height - 0.75 * radius)
        if not (0.6 * radius <= x <= width - 0.6 * radius and 0.6 * radius <= y <= height - 0.6 * radius):
            continue
        placed = make_placed(look, (x, y), radius, scene.size, rng)
        if _acceptable(scene, placed, seen):
            scene.put_in_front(placed)
            return
    if not scene.objects:
        centre = (rng.uniform(radius, width - radius), rng.uniform(radius, height - radius))
        scene.put_in_front(make_placed(look, centre, radius, scene.size, rng))


def _acceptable(scene: Scene, placed: Placed, seen: float) -> bool:
    if placed.visible_share < 0.7:
        return False
    for other in scene.objects:
        left = int(np.count_nonzero(other.visible & ~placed.whole))
        if left < seen * other.area:
            return False
        touching = (other.whole & placed.whole).any()
        if touching and other.look.colour == placed.look.colour:
            return False
    if scene.crowd is None:
        return True
    crowd = scene.crowd.visible
    area = sum(member.area for member in scene.crowd.members)
    return int(np.count_nonzero(crowd & ~placed.whole)) >= 0.4 * area


def _crowd(shape: str, size: tuple[int, int], rng: np.random.Generator) -> Crowd | None:
    """Return two to four rows of small things of one colour, jittered; None where too few find room."""
    look = Look(shape, _any(COLOUR_NAMES, rng), "plain", "small")
    short_side = min(size)
    radius = rng.uniform(0.048, 0.06) * short_side
    step = 2.25 * radius
    rows, columns = int(rng.integers(2, 5)), int(rng.integers(5, 8))
    left = rng.uniform(radius, max(size[1] - radius - step * (columns - 1), radius + 1))
    top = rng.uniform(radius, max(size[0] - radius - step * (rows - 1), radius + 1))
    crowd = Crowd(look)
    for row in range(rows):
        for column in range(columns):
            x, y = np.array([left + column * step, top + row * step]) + rng.uniform(-0.35, 0.35, 2) * radius
            if rng.random() < 0.12 or not (radius < x < size[1] - radius and radius < y < size[0] - radius):
                continue
            member = make_placed(look, (x, y), radius, size, rng)
            for other in crowd.members:
                other.visible &= ~member.whole
            crowd.members.append(member)
    return crowd if len(crowd.members) >= 8 else None
