"""Arrangement of a published dataset's files after unpacking, as its reader takes them."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.core.files import write_text
from components.sources.layout import file_name, read_annotations, read_text, unique_ids
from components.sources.readers.coco import annotation_path, images_dir

DEVKIT = "ILSVRC2012_devkit_t12"
_NUM_CLASSES = 1000


def sort_validation_images(root: Path) -> None:
    """Move ``val/ILSVRC2012_val_*.JPEG`` into ``val/<wnid>/``; the development kit goes when it is done.

    Args:
        root: folder with ``val/`` and the unpacked development kit.

    Raises:
        InputError: the kit's files are missing or do not fit the images.
    """
    data = root / DEVKIT / "data"
    wnids = _wnids(data / "meta.mat")
    truth_path = data / "ILSVRC2012_validation_ground_truth.txt"
    truth = read_text(truth_path, "one class number per line").split()
    images = sorted(entry for entry in os.listdir(root / "val") if (root / "val" / entry).is_file())
    if len(images) != len(truth):
        raise InputError(f"{truth_path}: {len(truth)} class numbers for {len(images)} validation images")
    for image, number in zip(images, truth, strict=True):
        if number not in wnids:
            raise InputError(f"{truth_path}: the class number {number!r} is not in {data / 'meta.mat'}")
        folder = root / "val" / wnids[number]
        folder.mkdir(exist_ok=True)
        os.replace(root / "val" / image, folder / image)
    shutil.rmtree(root / DEVKIT)


def _wnids(path: Path) -> dict[str, str]:
    """WordNet ids of the leaf classes by the number the ground truth gives them (not the sorted order)."""
    from scipy.io import loadmat  # here, so that what never unpacks ImageNet never pays for the import
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise InputError(f"{path}: missing from the development kit")
    try:
        synsets: Any = loadmat(path, squeeze_me=True, struct_as_record=False)["synsets"]
        numbered = {str(int(entry.ILSVRC2012_ID)): str(entry.WNID) for entry in synsets}
    except (KeyError, AttributeError, TypeError, ValueError, MatReadError) as error:
        raise InputError(f"{path}: not the table of classes ({error})") from None
    return {number: wnid for number, wnid in numbered.items() if int(number) <= _NUM_CLASSES}


HELD_OUT = 10  # of COCO's val2017, in the order of ids every tenth image: 500 of 5,000


def divide_val2017(root: Path) -> None:
    """Make COCO's layout of val2017 alone: nine tenths of its images to train on, one tenth to validate.

    COCO's own training images, 19 GB, are not needed then. Of the annotations captions and instances remain.

    Args:
        root: folder with ``annotations/`` and ``val2017/`` as published.

    Raises:
        InputError: an annotation file is missing or broken, or an image that it lists.
    """
    captions_path = annotation_path(root, "captions", "val")
    images = unique_ids(captions_path, read_annotations(captions_path, ("images",))["images"], "images")
    training = {key for index, key in enumerate(sorted(images)) if index % HELD_OUT != HELD_OUT - 1}
    aside = root / "divided"
    for kind in ("captions", "instances"):
        path = annotation_path(root, kind, "val")
        parsed = read_annotations(path, ("images", "annotations"))
        for split, in_training in (("train", True), ("val", False)):
            of_split = {
                "images": [image for image in parsed["images"] if (image["id"] in training) == in_training],
                "annotations": [
                    one for one in parsed["annotations"] if (one["image_id"] in training) == in_training
                ],
            }
            write_text(annotation_path(aside, kind, split), json.dumps(parsed | of_split))
    shutil.rmtree(root / "annotations")
    os.replace(aside / "annotations", root / "annotations")
    aside.rmdir()
    images_dir(root, "train").mkdir()
    for key in training:
        name = file_name(captions_path, images[key])
        try:
            os.replace(images_dir(root, "val") / name, images_dir(root, "train") / name)
        except FileNotFoundError:
            raise InputError(
                f"{images_dir(root, 'val')}: lacks {name}, which {captions_path.name} lists"
            ) from None


ARRANGE: dict[str, Callable[[Path], None]] = {
    "imagenet": sort_validation_images,
    "coco_val2017": divide_val2017,
}
