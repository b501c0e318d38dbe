"""The COCO 2017 layout: ``annotations/{kind}_{split}2017.json`` beside ``{split}2017/``.

Any captioned dataset in this layout is read here, such as Flickr8k brought into it.
"""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from components.errors import InputError
from components.sources.captioned import CaptionedImage
from components.sources.layout import (
    file_name,
    is_known,
    read_annotations,
    require_folder,
    require_images,
    shown,
    unique_ids,
)

SPLITS = ("train", "val")


def annotation_path(root: Path, kind: str, split: str) -> Path:
    """Path of an annotation file; ``kind`` is ``captions`` or ``instances``."""
    return root / "annotations" / f"{kind}_{split}2017.json"


def images_dir(root: Path, split: str) -> Path:
    """Folder of a split's images."""
    return root / f"{split}2017"


def read_captions(root: Path, split: str, dataset: str) -> list[CaptionedImage]:
    """Images with their captions, by ascending image id; captions in the order of the file.

    Blank captions are dropped, then images without captions.

    Args:
        root: the dataset's folder.
        split: ``train`` or ``val``.
        dataset: the name that begins every ``image_id``.

    Raises:
        InputError: a folder or file is missing, the JSON is broken or inconsistent, listed images
            are absent, or no image has a caption.
    """
    path = annotation_path(root, "captions", split)
    require_folder(root, "a dataset in COCO layout (annotations/, train2017/, val2017/)")
    parsed = read_annotations(path, ("images", "annotations"))
    images = unique_ids(path, parsed["images"], "images")
    folder = require_folder(images_dir(root, split), f"the images that {path} lists")
    captions = _captions_by_image(path, parsed["annotations"], images)
    names = {key: file_name(path, images[key]) for key in images}
    require_images(folder, names.values(), path)
    if not captions:
        raise InputError(f"{path}: no image has a caption; is it a captions file?")
    return [
        CaptionedImage(f"{dataset}/{key}", dataset, folder / names[key], tuple(captions[key]))
        for key in sorted(captions)
    ]


def _captions_by_image(
    path: Path, annotations: list[dict[str, Any]], images: dict[Any, dict[str, Any]]
) -> dict[Any, list[str]]:
    captions: dict[Any, list[str]] = defaultdict(list)
    for annotation in annotations:
        key, caption = annotation.get("image_id"), annotation.get("caption")
        if not isinstance(caption, str):
            raise InputError(f"{path}: an annotation has no `caption` text: {shown(annotation)}")
        if not is_known(key, images):
            raise InputError(f"{path}: a caption names the image id {key!r}, which `images` lacks")
        if caption.strip():
            captions[key].append(caption)
    return captions


def read_instances(root: Path, split: str) -> dict[str, Any]:
    """``instances_{split}2017.json``, parsed and checked, with all its keys.

    Raises:
        InputError: as :func:`check_instances`, or listed images are absent.
    """
    path = annotation_path(root, "instances", split)
    parsed = read_annotations(path, ("images", "annotations", "categories"))
    check_instances(path, parsed)
    folder = require_folder(images_dir(root, split), f"the images that {path} lists")
    require_images(folder, (file_name(path, image) for image in parsed["images"]), path)
    return parsed


def check_instances(path: Path, parsed: dict[str, Any]) -> None:
    """Check object annotations: ids unique and known, boxes ``[x, y, width, height]``, masks plausible.

    Raises:
        InputError: names the file and the first faulty record.
    """
    images = unique_ids(path, parsed["images"], "images")
    categories = unique_ids(path, parsed["categories"], "categories")
    unique_ids(path, parsed["annotations"], "annotations")
    for annotation in parsed["annotations"]:
        if not is_known(annotation.get("image_id"), images):
            raise InputError(f"{path}: an object of an image that `images` lacks: {shown(annotation)}")
        if not is_known(annotation.get("category_id"), categories):
            raise InputError(f"{path}: an object of a category that `categories` lacks: {shown(annotation)}")
        if not _is_box(annotation.get("bbox")):
            raise InputError(f"{path}: `bbox` must be [x, y, width, height]: {shown(annotation)}")
        if not _is_mask(annotation.get("segmentation")):
            raise InputError(f"{path}: `segmentation` must be polygons or run lengths: {shown(annotation)}")


def count_objects(parsed: dict[str, Any]) -> dict[str, int]:
    """Number of annotated objects by category name, crowd regions included, or by id where it has no name."""
    counts = Counter(annotation["category_id"] for annotation in parsed["annotations"])
    return {
        str(category.get("name", category["id"])): counts[category["id"]] for category in parsed["categories"]
    }


def _is_box(box: object) -> bool:
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(value, int | float) for value in box):
        return False
    return box[2] >= 0 and box[3] >= 0


def _is_mask(mask: object) -> bool:
    """A list of polygons with at least three points each, or a run-length mask."""
    if isinstance(mask, dict):
        return isinstance(mask.get("counts"), list | str) and isinstance(mask.get("size"), list)
    return isinstance(mask, list) and all(
        isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in mask
    )
