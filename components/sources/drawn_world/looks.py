"""What an object looks like besides its shape: colour, texture, size. None of them tells the shape."""

from dataclasses import dataclass

import numpy as np

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 36, 40),
    "orange": (245, 140, 24),
    "yellow": (244, 222, 48),
    "green": (36, 158, 64),
    "blue": (36, 88, 214),
    "purple": (136, 50, 178),
    "white": (244, 244, 240),
    "black": (24, 24, 28),
}
COLOUR_NAMES = tuple(COLOURS)

TEXTURES = ("plain", "striped", "dotted", "checked")
TEXTURE_WEIGHTS = (0.70, 0.12, 0.10, 0.08)

SIZES = ("small", "medium", "large")
SIZE_WEIGHTS = (0.20, 0.45, 0.35)
RADIUS_RANGE: dict[str, tuple[float, float]] = {  # as a share of the picture's shorter side
    "tiny": (0.035, 0.045),
    "small": (0.15, 0.19),
    "medium": (0.22, 0.28),
    "large": (0.30, 0.40),
    "dominant": (0.30, 0.40),
}


@dataclass(frozen=True, slots=True)
class Look:
    """What a caption can say of one object; ``size`` is a key of RADIUS_RANGE."""

    shape: str
    colour: str
    texture: str
    size: str


def shade(colour: str, rng: np.random.Generator) -> np.ndarray:
    """One shade of a named colour, (3,) float32 in 0 to 255."""
    return np.clip(np.array(COLOURS[colour]) + rng.uniform(-16, 16, 3), 0, 255).astype(np.float32)


def second_tone(tone: np.ndarray) -> np.ndarray:
    """The other tone of a two-tone texture: lighter for dark colours, darker for light ones."""
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
