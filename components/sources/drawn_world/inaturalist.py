"""Writing annotations in the layout of iNaturalist 2018."""

from collections.abc import Sequence
from pathlib import Path

from components.sources.drawn_world.coco import LICENSES, dump
from components.sources.drawn_world.drawing import ImageRecord
from components.sources.drawn_world.species import SPECIES, Species


def file_name(species: Species, image_id: int) -> str:
    """Path of an image below the dataset's root, as the annotations name it."""
    return f"train_val2018/{species.family}/{species.number}/{image_id:08d}.jpg"


def write_annotations(
    path: Path, members: Sequence[Species], image_ids: Sequence[int], records: Sequence[ImageRecord]
) -> None:
    """Write one split's JSON: images, one annotation an image (its species), all categories.

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
