"""Writing captioned scenes in COCO's layout: images, captions, instances."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.sources.drawn_world.drawing import ImageRecord
from components.sources.drawn_world.shapes import SHAPES

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
    """COCO's name of an image file."""
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
