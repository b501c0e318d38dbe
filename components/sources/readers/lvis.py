"""The LVIS v1 layout: ``annotations/lvis_v1_{split}.json`` over the images of COCO 2017.

An image's file is named by the end of its ``coco_url`` (``train2017/000000000009.jpg``): the
validation split takes images from COCO's train2017 folder too.
"""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from components.core.errors import InputError
from components.sources.layout import is_known, read_annotations, require_images, shown, unique_ids
from components.sources.readers.objects import Notes, mend_objects
from components.sources.readers.types import DatasetFolders, Verified

SPLITS = ("train", "val")
FREQUENCIES = ("r", "c", "f")  # rare, common, frequent: 1-10, 11-100, more than 100 training images


def annotation_path(root: Path, split: str) -> Path:
    """Return the path of a split's annotation file."""
    return root / "annotations" / f"lvis_v1_{split}.json"


def read_lvis(root: Path, split: str, images_root: Path, is_told: bool = True) -> dict[str, Any]:
    """Return a split's annotations, parsed, checked and mended, with all their keys.

    Args:
        root: folder that contains ``annotations/``.
        split: ``train`` or ``val``.
        images_root: folder that contains ``train2017/`` and ``val2017/``.
        is_told: whether to print what was done to objects.

    Raises:
        InputError: a file is missing or inconsistent, or listed images are absent.
    """
    path = annotation_path(root, split)
    parsed = read_annotations(path, ("images", "annotations", "categories"))
    notes = check_lvis(path, parsed)
    if is_told:
        notes.tell()
    require_images(images_root, (image_name(path, image) for image in parsed["images"]), path)
    return parsed


def verify_lvis(root: Path, folders: DatasetFolders) -> Verified:
    """Read both splits; the images are where ``train2017/`` lies, here or in a captioned dataset.

    Raises:
        InputError: as :func:`read_lvis`.
    """
    places = (root, *folders.captions.values())
    images_root = next((place for place in places if (place / "train2017").is_dir()), root)
    paths = {split: annotation_path(root, split) for split in SPLITS}
    files, figures = {}, {}
    for split, path in paths.items():
        parsed = read_lvis(root, split, images_root)
        files[split] = [images_root / image_name(path, image) for image in parsed["images"]]
        figures[split] = {
            "images": len(parsed["images"]),
            "objects": len(parsed["annotations"]),
            "classes": len(parsed["categories"]),
        }
    return Verified(list(paths.values()), files, figures, images_root)


def check_lvis(path: Path, parsed: dict[str, Any]) -> Notes:
    """Mend the objects as COCO's, and check what LVIS adds: frequencies and lists of verified absences.

    Raises:
        InputError: names the file and the first faulty record.
    """
    notes = mend_objects(path, parsed)
    categories = unique_ids(path, parsed["categories"], "categories")
    for category in parsed["categories"]:
        if category.get("frequency") not in FREQUENCIES:
            raise InputError(f"{path}: a category's `frequency` must be r, c or f: {shown(category)}")
    for image in parsed["images"]:
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            listed = image.get(key)
            if not isinstance(listed, list) or not all(is_known(entry, categories) for entry in listed):
                raise InputError(f"{path}: `{key}` must list known categories: {shown(image)}")
    return notes


def image_name(path: Path, image: dict[str, Any]) -> str:
    """Return an image's path below the images' root, such as ``val2017/000000000139.jpg``.

    Raises:
        InputError: its ``coco_url`` is missing or does not end in a folder and a file.
    """
    url = image.get("coco_url")
    parts = urlsplit(url).path.split("/")[-2:] if isinstance(url, str) else []
    if len(parts) != 2 or not all(parts) or ".." in parts:
        raise InputError(f"{path}: an image's `coco_url` must end in <folder>/<file>: {shown(image)}")
    return "/".join(parts)
