"""Writing captioned scenes in the layout of COCO (images, captions, instances), and LVIS v1 over them.

The vocabulary of LVIS is finer than COCO's and long-tailed: plain things go by their shape, striped and
dotted ones by texture and shape, checked ones by colour, texture and shape. As in LVIS there are no crowds:
a category whose crowd was left out is not exhaustively annotated in that image, and is not among its
negatives.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.sources.drawn_world.drawing import ImageRecord
from components.sources.drawn_world.shapes import COLOUR_NAMES, SHAPES, TEXTURES, Look

# As in COCO, category ids have gaps: 12 and 26 name nothing.
CATEGORY_IDS: dict[str, int] = dict(
    zip((s.name for s in SHAPES), (i for i in range(1, 99) if i not in (12, 26)), strict=False)
)
INFO = {"description": "Drawn world", "version": "1", "year": 2017, "contributor": "", "date_created": ""}
LICENSES = [{"id": 1, "name": "Drawn by the seed; no rights reserved", "url": ""}]


@dataclass(frozen=True, slots=True)
class CocoSplit:
    """One split's images: ids and records, in step."""

    name: str
    image_ids: list[int]
    records: list[ImageRecord]


def file_name(image_id: int) -> str:
    """Return COCO's name of an image file."""
    return f"{image_id:012d}.jpg"


def write_annotations(split: CocoSplit, annotations_dir: Path, first_annotation_id: int) -> int:
    """Write ``captions_<split>2017.json`` and ``instances_<split>2017.json``.

    Returns:
        The first annotation id that is still free.
    """
    images = [_image(split, position) for position in range(len(split.records))]
    shared = {"info": INFO, "licenses": LICENSES, "images": images}
    captions, instances = [], []
    annotation_id = first_annotation_id
    for image_id, record in zip(split.image_ids, split.records, strict=True):
        for caption in record.captions:
            captions.append({"image_id": image_id, "id": annotation_id, "caption": caption})
            annotation_id += 1
        for fields in _regions(record):
            instances.append({**fields, "image_id": image_id, "id": annotation_id})
            annotation_id += 1
    categories = [
        {"supercategory": shape.family.lower(), "id": CATEGORY_IDS[shape.name], "name": shape.name}
        for shape in SHAPES
    ]
    dump(annotations_dir / f"captions_{split.name}2017.json", {**shared, "annotations": captions})
    dump(
        annotations_dir / f"instances_{split.name}2017.json",
        {**shared, "annotations": instances, "categories": categories},
    )
    return annotation_id


def dump(path: Path, value: Any) -> None:
    """Write compact JSON into a folder that is itself written atomically."""
    path.write_text(json.dumps(value, separators=(",", ":")), encoding="utf-8")


def _image(split: CocoSplit, position: int) -> dict[str, Any]:
    record = split.records[position]
    image_id = split.image_ids[position]
    return {
        "license": 1,
        "file_name": file_name(image_id),
        "coco_url": f"http://drawn-world.invalid/{split.name}2017/{file_name(image_id)}",
        "height": record.height,
        "width": record.width,
        "date_captured": "2017-01-01 00:00:00",
        "flickr_url": "",
        "id": image_id,
    }


def _regions(record: ImageRecord) -> list[dict[str, Any]]:
    regions: list[dict[str, Any]] = [
        {
            "segmentation": item.polygons,
            "area": float(item.area),
            "iscrowd": 0,
            "bbox": [float(value) for value in item.box],
            "category_id": CATEGORY_IDS[item.look.shape],
        }
        for item in record.objects
    ]
    if record.crowd is not None:
        regions.append(
            {
                "segmentation": {"counts": record.crowd.counts, "size": [record.height, record.width]},
                "area": float(record.crowd.area),
                "iscrowd": 1,
                "bbox": [float(value) for value in record.crowd.box],
                "category_id": CATEGORY_IDS[record.crowd.look.shape],
            }
        )
    return regions


# Categories named as surely absent, an image, beside every absent shape: without those, to find every shape
# everywhere would hardly be wrong.
NUM_NEGATIVES = 5
RARE_UP_TO, COMMON_UP_TO = 10, 100  # training images of a category, as LVIS counts frequency


def category_name(look: Look) -> str:
    """Return the vocabulary's word for a look: a shape, frequent, or a checked shape of a colour, rare."""
    return f"{look.colour}_{look.texture}_{look.shape}" if look.texture == "checked" else look.shape


def _vocabulary() -> dict[str, str]:
    """Return category name to definition, sorted by name."""
    words = {}
    for shape in SHAPES:
        for texture in TEXTURES:
            for colour in COLOUR_NAMES:
                name = category_name(Look(shape.name, colour, texture, "medium"))
                pattern = name.rpartition("_")[0].replace("_", " ")
                words[name] = f"{shape.definition}, {pattern}" if pattern else shape.definition
    return dict(sorted(words.items()))


VOCABULARY = _vocabulary()
LVIS_IDS = {name: number for number, name in enumerate(VOCABULARY, start=1)}


def write_lvis(splits: Sequence[CocoSplit], lvis_dir: Path, seed: int) -> None:
    """Write ``lvis_v1_<split>.json`` for all splits; both carry the training split's counts.

    Args:
        splits: the COCO splits, ``train`` among them.
        lvis_dir: existing folder.
        seed: chooses the negative categories.
    """
    train = next(split for split in splits if split.name == "train")
    categories = _lvis_categories(train.records)
    annotation_id = 1
    for split in splits:
        images, annotations = [], []
        for image_id, record in zip(split.image_ids, split.records, strict=True):
            images.append(
                _lvis_image(split.name, image_id, record, np.random.default_rng([seed, 100, image_id]))
            )
            for item in record.objects:
                annotations.append(
                    {
                        "id": annotation_id,
                        "image_id": image_id,
                        "category_id": LVIS_IDS[category_name(item.look)],
                        "area": float(item.area),
                        "bbox": [float(value) for value in item.box],
                        "segmentation": item.polygons,
                    }
                )
                annotation_id += 1
        dump(
            lvis_dir / f"lvis_v1_{split.name}.json",
            {
                "info": {"description": "Drawn world", "version": "v1", "year": 2020},
                "licenses": LICENSES,
                "images": images,
                "annotations": annotations,
                "categories": categories,
            },
        )


def _lvis_image(split: str, image_id: int, record: ImageRecord, rng: np.random.Generator) -> dict[str, Any]:
    present = {category_name(item.look) for item in record.objects}
    crowd = {category_name(record.crowd.look)} if record.crowd is not None else set()
    absent = [name for name in VOCABULARY if name not in present | crowd]
    frequent = [LVIS_IDS[name] for name in absent if name in CATEGORY_IDS]
    others = [LVIS_IDS[name] for name in absent if name not in CATEGORY_IDS]
    return {
        "id": image_id,
        "license": 1,
        "width": record.width,
        "height": record.height,
        "coco_url": f"http://drawn-world.invalid/{split}2017/{file_name(image_id)}",
        "flickr_url": "",
        "date_captured": "2017-01-01 00:00:00",
        "neg_category_ids": sorted(frequent + rng.choice(others, NUM_NEGATIVES, replace=False).tolist()),
        "not_exhaustive_category_ids": sorted(LVIS_IDS[name] for name in crowd),
    }


def _lvis_categories(records: Sequence[ImageRecord]) -> list[dict[str, Any]]:
    instances = Counter(category_name(item.look) for record in records for item in record.objects)
    images = Counter(name for r in records for name in {category_name(item.look) for item in r.objects})
    return [
        {
            "id": number,
            "name": name,
            "synset": f"{name}.n.01",
            "synonyms": [name],
            "def": VOCABULARY[name],
            "frequency": "r" if images[name] <= RARE_UP_TO else "c" if images[name] <= COMMON_UP_TO else "f",
            "image_count": images[name],
            "instance_count": instances[name],
        }
        for name, number in LVIS_IDS.items()
    ]
