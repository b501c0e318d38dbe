"""The classes of the drawn ImageNet and the species of the drawn iNaturalist."""

from dataclasses import dataclass

import numpy as np

from components.sources.drawn_world.looks import TEXTURES
from components.sources.drawn_world.shapes import SHAPES

TAIL_EXPONENT = 0.9


@dataclass(frozen=True, slots=True)
class Species:
    """A fine-grained class: a shape with a texture, whatever its colour."""

    number: int
    name: str
    family: str
    shape: str
    texture: str


SPECIES: tuple[Species, ...] = tuple(
    Species(number, f"{texture} {shape.name}", shape.family, shape.name, texture)
    for number, (shape, texture) in enumerate((shape, texture) for shape in SHAPES for texture in TEXTURES)
)
WORDNET_IDS: dict[str, str] = {shape.name: f"n{number:08d}" for number, shape in enumerate(SHAPES, start=1)}


def long_tailed_counts(mean: int, seed: int) -> list[int]:
    """Training images of each species: a power law over a random ranking, one at least.

    Args:
        mean: images a species on average; the counts sum to it times the number of species.
        seed: chooses which species are common.
    """
    total = mean * len(SPECIES)
    ranks = np.random.default_rng([seed, 200]).permutation(len(SPECIES))
    weights = (ranks + 1.0) ** -TAIL_EXPONENT
    spare = total - len(SPECIES)
    shares = np.cumsum(weights / weights.sum()) * spare
    extra = np.diff(np.concatenate([[0], np.round(shares)])).astype(int)
    return (1 + extra).tolist() if mean > 0 else [0] * len(SPECIES)
