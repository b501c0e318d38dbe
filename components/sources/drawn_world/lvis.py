"""Writing LVIS v1 annotations over the images in COCO's layout.

The vocabulary is finer than COCO's and long-tailed: plain things go by their shape, striped and
dotted ones by texture and shape, checked ones by colour, texture and shape. As in LVIS there are no
crowds: a category whose crowd was left out is not exhaustively annotated in that image, and is not
among its negatives.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.sources.drawn_world.coco import LICENSES, CocoSplit, dump, file_name
from components.sources.drawn_world.drawing import ImageRecord
from components.sources.drawn_world.looks import COLOUR_NAMES, TEXTURES, Look
from components.sources.drawn_world.shapes import SHAPES

NUM_NEGATIVES = 5  # categories named as surely absent, an image
RARE_UP_TO, COMMON_UP_TO = 10, 100  # training images of a category, as LVIS counts frequency


def category_name(look: Look) -> str:
    """The vocabulary's word for a look."""
    if look.texture == "plain":
        return look.shape
    if look.texture == "checked":
        return f"{look.colour}_{look.texture}_{look.shape}"
    return f"{look.texture}_{look.shape}"


def _vocabulary() -> dict[str, str]:
    """Category name to definition, sorted by name."""
    words = {}
    for shape in SHAPES:
        for texture in TEXTURES:
            for colour in COLOUR_NAMES:
                name = category_name(Look(shape.name, colour, texture, "medium"))
                pattern = name.rpartition("_")[0].replace("_", " ")
                words[name] = f"{shape.definition}, {pattern}" if pattern else shape.definition
    return dict(sorted(words.items()))


VOCABULARY = _vocabulary()
CATEGORY_IDS = {name: number for number, name in enumerate(VOCABULARY, start=1)}


def write_lvis(splits: Sequence[CocoSplit], lvis_dir: Path, seed: int) -> None:
    """Write ``lvis_v1_<split>.json`` for all splits; both carry the training split's counts.

    Args:
        splits: the COCO splits, ``train`` among them.
        lvis_dir: existing folder.
        seed: chooses the negative categories.
    """
    train = next(split for split in splits if split.name == "train")
    categories = _categories(train.records)
    annotation_id = 1
    for split in splits:
        images, annotations = [], []
        for image_id, record in zip(split.image_ids, split.records, strict=True):
            images.append(_image(split.name, image_id, record, np.random.default_rng([seed, 100, image_id])))
            for item in record.objects:
                annotations.append(
                    {
                        "id": annotation_id,
                        "image_id": image_id,
                        "category_id": CATEGORY_IDS[category_name(item.look)],
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


def _image(split: str, image_id: int, record: ImageRecord, rng: np.random.Generator) -> dict[str, Any]:
    present = {category_name(item.look) for item in record.objects}
    crowd = {category_name(record.crowd.look)} if record.crowd is not None else set()
    absent = [CATEGORY_IDS[name] for name in VOCABULARY if name not in present | crowd]
    return {
        "id": image_id,
        "license": 1,
        "width": record.width,
        "height": record.height,
        "coco_url": f"http://drawn-world.invalid/{split}2017/{file_name(image_id)}",
        "flickr_url": "",
        "date_captured": "2017-01-01 00:00:00",
        "neg_category_ids": sorted(rng.choice(absent, NUM_NEGATIVES, replace=False).tolist()),
        "not_exhaustive_category_ids": sorted(CATEGORY_IDS[name] for name in crowd),
    }


def _categories(records: Sequence[ImageRecord]) -> list[dict[str, Any]]:
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
        for name, number in CATEGORY_IDS.items()
    ]
