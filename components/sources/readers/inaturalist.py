"""The iNaturalist 2018 layout: ``annotations/{split}2018.json`` and images below the same root."""

from pathlib import Path

import numpy as np

from components.core.errors import InputError
from components.sources.layout import (
    category_name,
    file_name,
    is_known,
    read_annotations,
    require_folder,
    require_images,
    shown,
    unique_ids,
)
from components.sources.readers.types import ClassifiedImages, DatasetFolders, Verified, verified_classes

SPLITS = ("train", "val")


def annotation_path(root: Path, split: str) -> Path:
    """Return the path of a split's annotation file."""
    return root / "annotations" / f"{split}2018.json"


def read_inaturalist(root: Path, split: str) -> ClassifiedImages:
    """Read a split, in the order of its annotation file; class indices follow ascending category ids.

    The published file names the classes by numbers; a category's ``name`` is taken as it is.

    Args:
        root: folder that contains ``annotations/`` and the images (officially ``train_val2018/``).
        split: ``train`` or ``val``.

    Raises:
        InputError: a file is missing or inconsistent, an image has no class or two, or listed images
            are absent.
    """
    require_folder(root, "annotations/train2018.json, annotations/val2018.json and the images")
    path = annotation_path(root, split)
    parsed = read_annotations(path, ("images", "annotations", "categories"))
    images = unique_ids(path, parsed["images"], "images")
    categories = unique_ids(path, parsed["categories"], "categories")
    index = {key: position for position, key in enumerate(sorted(categories))}
    label_of: dict[object, int] = {}
    for annotation in parsed["annotations"]:
        key, category = annotation.get("image_id"), annotation.get("category_id")
        if not is_known(key, images) or not is_known(category, categories):
            raise InputError(f"{path}: an annotation names an unknown image or category: {shown(annotation)}")
        if key in label_of:
            raise InputError(f"{path}: the image {key!r} has two annotations; expected one class per image")
        label_of[key] = index[category]
    unlabelled = next((key for key in images if key not in label_of), None)
    if unlabelled is not None or not images:
        raise InputError(
            f"{path}: the image {unlabelled!r} has no annotation" if images else f"{path}: no images"
        )
    names = [file_name(path, image) for image in images.values()]
    require_images(root, names, path)
    return ClassifiedImages(
        image_paths=[root / name for name in names],
        classes=tuple(category_name(categories[key]) for key in sorted(categories)),
        labels=np.array([label_of[key] for key in images], dtype=np.int64),
    )


def verify_inaturalist(root: Path, _: DatasetFolders) -> Verified:
    """Read both splits.

    Raises:
        InputError: as :func:`read_inaturalist`, or they list different categories.
    """
    splits = {split: read_inaturalist(root, split) for split in SPLITS}
    if splits["train"].classes != splits["val"].classes:
        raise InputError(f"{root}: train and val list different categories; are they of the same year?")
    return verified_classes(splits, [annotation_path(root, split) for split in splits])
