"""ImageNet's validation images, which come in one heap, into one folder a class."""

import os
import shutil
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.sources.layout import read_text

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
    truth = read_text(truth_path, "a class number a line").split()
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
