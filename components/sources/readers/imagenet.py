"""The ImageNet layout: ``{train,val}/<class>/<image>``, one folder per class in each split."""

import os
import re
from pathlib import Path

import numpy as np

from components.core.errors import InputError
from components.sources.image_files import is_companion, is_image, walk
from components.sources.layout import Tally, require_folder, require_utf8
from components.sources.readers.types import ClassifiedImages, DatasetFolders, Verified, verified_classes

SPLITS = ("train", "val")
_WORDNET_ID = re.compile(r"n\d{8}")


def read_imagenet(root: Path, split: str, tally: Tally | None = None) -> ClassifiedImages:
    """Read a split; classes are the folders of ``train``, sorted, so that both splits count alike.

    ImageNet itself, whose classes are WordNet ids, is read as stored: so does torchvision, and with it the
    paper's code and all published weights. Folders of anybody's own are read upright.

    Images may lie in folders below their class's, as torchvision's ``ImageFolder`` takes them.

    Args:
        root: folder that contains ``train/`` and ``val/``.
        split: ``train`` or ``val``.
        tally: is told of what is left out.

    Raises:
        InputError: a folder is missing, the splits' classes differ, a class has no image, or a name is
            not UTF-8.
    """
    require_folder(root, "train/ and val/, one folder per class in each")
    tally = tally or Tally()
    classes = _classes(root / "train", Tally())
    folder = root / split
    if (found := _classes(folder, tally)) != classes:
        name = sorted(set(found) ^ set(classes))[0]
        raise InputError(f"{root}: train and {split} have different classes, such as {name}; complete both")
    image_paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        images = _images(folder / name, tally)
        if not images:
            raise InputError(
                f"{folder / name}: a class without images (searched for .jpeg, .jpg, .png and the like); "
                "fill or remove it"
            )
        image_paths.extend(images)
        labels.extend([label] * len(images))
    upright = not all(map(_WORDNET_ID.fullmatch, classes))
    return ClassifiedImages(image_paths, classes, np.array(labels, dtype=np.int64), upright)


def verify_imagenet(root: Path, _: DatasetFolders) -> Verified:
    """Read both splits; one line says what was taken.

    Raises:
        InputError: as :func:`read_imagenet`.
    """
    tally = Tally()
    splits = {split: read_imagenet(root, split, tally) for split in SPLITS}
    num_images = sum(len(images.image_paths) for images in splits.values())
    num_classes = len(splits["train"].classes)
    print(tally.line("imagenet", f"{num_images:,} images of {num_classes:,} classes"), flush=True)
    return verified_classes(splits, [])


def _images(folder: Path, tally: Tally) -> list[Path]:
    images: list[Path] = []
    for below, names in walk(folder, tally.leave_out):
        for name in names:
            if is_image(name):
                images.append(require_utf8(below / name))
            else:
                tally.leave_out("files that are no images", below / name)
    return sorted(images)


def _classes(folder: Path, tally: Tally) -> tuple[str, ...]:
    require_folder(folder, "one folder of images per class")
    classes = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if is_companion(entry.name):
            tally.leave_out("hidden or companion files and folders", entry.path)
        elif entry.is_dir():
            classes.append(require_utf8(folder / entry.name).name)
        else:
            tally.leave_out("files outside the classes' folders", entry.path)
    if not classes:
        raise InputError(
            f"{folder}: no class folders; the official validation images come in one folder: "
            "sort them into one folder per class first"
        )
    return tuple(classes)
