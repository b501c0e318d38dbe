"""VOC's masks of classes: ``VOC2012/SegmentationClass/*.png``, listed in ``ImageSets/Segmentation``.

A mask is a palette PNG of its image's size, whose indices are numbers of classes: 0 is background, 255 the
border of an object and what is too hard to tell, which does not count.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from components.core.errors import InputError
from components.sources.layout import require_images
from components.sources.readers.types import DatasetFolders, Verified
from components.sources.readers.voc import read_image_ids, verify_voc2012

FOLDER = "VOC2012"
MANIFEST_SPLITS = {"train": "segmentation_train", "val": "segmentation_val"}  # beside detection's trainval
BORDER = 255
INDEXED = ("P", "L")  # Pillow's modes of one number per pixel, with a palette or without


@dataclass(frozen=True, slots=True)
class MaskedImages:
    """Images of a split and their masks, in the order of its list."""

    image_paths: list[Path]
    mask_paths: list[Path]


def verify_boxes_and_masks(root: Path, folders: DatasetFolders) -> Verified:
    """Read VOC2012 for detection and, where it has masks, its splits for segmentation.

    Raises:
        InputError: as :func:`verify_voc2012`, :func:`read_masked_images` and :func:`require_fitting_masks`.
    """
    verified = verify_voc2012(root, folders)
    if not has_masks(root):
        return verified
    annotations, files, figures = [*verified.annotations], {**verified.files}, {**verified.figures}
    for split, name in MANIFEST_SPLITS.items():
        found = read_masked_images(root, split)
        require_fitting_masks(found)
        annotations.append(_list_path(root, split))
        files[name] = [*found.image_paths, *found.mask_paths]
        figures[name] = {"images": len(found.image_paths)}
    return Verified(annotations, files, figures)


def has_masks(root: Path) -> bool:
    """Return whether VOC2012 comes with masks of classes; archives of boxes alone have none."""
    folder = root / FOLDER
    return (folder / "SegmentationClass").is_dir() and (folder / "ImageSets" / "Segmentation").is_dir()


def _list_path(root: Path, split: str) -> Path:
    return root / FOLDER / "ImageSets" / "Segmentation" / f"{split}.txt"


def read_masked_images(root: Path, split: str) -> MaskedImages:
    """Return a split of the images with masks; ask `has_masks` first.

    Raises:
        InputError: the list is missing or empty, or listed images or masks are absent.
    """
    path = _list_path(root, split)
    ids = read_image_ids(path)
    images, masks = (root / FOLDER / name for name in ("JPEGImages", "SegmentationClass"))
    require_images(images, (f"{image_id}.jpg" for image_id in ids), path)
    require_images(masks, (f"{image_id}.png" for image_id in ids), path, "masks")
    return MaskedImages(
        [images / f"{image_id}.jpg" for image_id in ids], [masks / f"{image_id}.png" for image_id in ids]
    )


def require_fitting_masks(split: MaskedImages) -> None:
    """Look at the headers of all masks and images (InputError: a mask is none, or of another size)."""
    for image_path, mask_path in zip(split.image_paths, split.mask_paths, strict=True):
        with _opened(mask_path) as mask, _opened(image_path) as image:
            _require_indexed(mask_path, mask)
            if mask.size != image.size:
                sizes = [" x ".join(map(str, one.size)) for one in (mask, image)]
                raise InputError(f"{mask_path}: {sizes[0]} pixels, but its image has {sizes[1]}")


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Return the numbers of classes ``(height, width)``.

    Raises:
        InputError: if it is no whole PNG of such numbers.
    """
    with _opened(path) as image:
        _require_indexed(path, image)
        try:
            return np.asarray(image, dtype=np.uint8)
        except OSError as error:
            raise InputError(f"{path}: a damaged mask ({error}); unpack or fetch it again") from error


def _require_indexed(path: Path, image: Image.Image) -> None:
    if image.mode not in INDEXED:
        raise InputError(
            f"{path}: a picture in mode {image.mode}; expected a palette PNG whose indices are numbers of "
            "classes (convert colours back to VOC's indices)"
        )


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{path}: no picture that can be read ({error}); fetch it again") from error
