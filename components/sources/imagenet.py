"""The ImageNet layout: ``{train,val}/<class>/<image>``, one folder a class in each split."""

import os
import re
from pathlib import Path

import numpy as np

from components.errors import InputError
from components.sources.classified import ClassifiedImages
from components.sources.layout import require_folder

SPLITS = ("train", "val")
_WORDNET_ID = re.compile(r"n\d{8}")
SUFFIXES = (".jpeg", ".jpg", ".png")


def read_imagenet(root: Path, split: str) -> ClassifiedImages:
    """Read a split; classes are the folders of ``train``, sorted, so that both splits count alike.

    ImageNet itself, whose classes are WordNet ids, is read as stored: so does torchvision, and with it the
    paper's code and all published weights. Folders of anybody's own are read upright.

    Args:
        root: folder that contains ``train/`` and ``val/``.
        split: ``train`` or ``val``.

    Raises:
        InputError: a folder is missing, the splits' classes differ, or a class has no image.
    """
    require_folder(root, "train/ and val/, one folder a class in each")
    classes = _classes(root / "train")
    folder = root / split
    if (found := _classes(folder)) != classes:
        name = sorted(set(found) ^ set(classes))[0]
        raise InputError(f"{root}: train and {split} have different classes, such as {name}; complete both")
    image_paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        images = sorted(entry for entry in os.listdir(folder / name) if entry.lower().endswith(SUFFIXES))
        if not images:
            raise InputError(
                f"{folder / name}: a class without images ({', '.join(SUFFIXES)}); fill or remove it"
            )
        image_paths.extend(folder / name / image for image in images)
        labels.extend([label] * len(images))
    upright = not all(map(_WORDNET_ID.fullmatch, classes))
    return ClassifiedImages(image_paths, classes, np.array(labels, dtype=np.int64), upright)


def _classes(folder: Path) -> tuple[str, ...]:
    require_folder(folder, "one folder of images a class")
    classes = tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()))
    if not classes:
        raise InputError(
            f"{folder}: no class folders; the official validation images come in one heap: "
            "sort them into one folder a class first"
        )
    return classes
