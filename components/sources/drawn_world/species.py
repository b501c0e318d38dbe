"""Classes of the drawn ImageNet, species of the drawn iNaturalist, and the annotations of the latter."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.sources.drawn_world.coco import LICENSES, dump
from components.sources.drawn_world.drawing import ImageRecord
from components.sources.drawn_world.shapes import SHAPES, TEXTURES

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
        mean: images per species on average; the counts sum to it times the number of species.
        seed: chooses which species are common.
    """
    total = mean * len(SPECIES)
    ranks = np.random.default_rng([seed, 200]).permutation(len(SPECIES))
    weights = (ranks + 1.0) ** -TAIL_EXPONENT
    spare = total - len(SPECIES)
    shares = np.cumsum(weights / weights.sum()) * spare
    extra = np.diff(np.concatenate([[0], np.round(shares)])).astype(int)
    return (1 + extra).tolist() if mean > 0 else [0] * len(SPECIES)


def file_name(species: Species, image_id: int) -> str:
    """Path of an image below the dataset's root, as the annotations name it."""
    return f"train_val2018/{species.family}/{species.number}/{image_id:08d}.jpg"


def write_annotations(
    path: Path, members: Sequence[Species], image_ids: Sequence[int], records: Sequence[ImageRecord]
) -> None:
    """Write one split's JSON: images, one annotation per image (its species), all categories.

    Args:
        path: the JSON file.
        members: the species of each image.
        image_ids: unique over both splits, in step with ``members``; also the annotations' ids.
        records: the drawn images, in step with ``members``.
    """
    images = [
        {
            "id": image_id,
            "file_name": file_name(species, image_id),
            "license": 1,
            "rights_holder": "",
            "height": record.height,
            "width": record.width,
        }
        for species, image_id, record in zip(members, image_ids, records, strict=True)
    ]
    annotations = [
        {"id": image_id, "image_id": image_id, "category_id": species.number}
        for species, image_id in zip(members, image_ids, strict=True)
    ]
    categories = [{"id": s.number, "name": s.name, "supercategory": s.family} for s in SPECIES]
    info = {"description": "Drawn world", "version": "1", "year": 2018}
    dump(
        path,
        {
            "info": info,
            "licenses": LICENSES,
            "images": images,
            "annotations": annotations,
            "categories": categories,
        },
    )
