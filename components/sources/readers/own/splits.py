"""Which images are for training and which for validation."""

import hashlib
from collections.abc import Sequence
from pathlib import PurePath

from components.core.errors import InputError
from components.sources.readers.own.sample import OwnImage, OwnSettings

SPLIT_NAMES = ("train", "val", "test")
_SYNONYMS = {"training": "train", "validation": "val", "valid": "val", "dev": "val"}


def split_named(written: str) -> str | None:
    """The split that a word means, or None if it means none."""
    word = written.strip().lower()
    word = _SYNONYMS.get(word, word)
    return word if word in SPLIT_NAMES else None


def split_of_folder(relative: PurePath) -> str | None:
    """The split that the first folder of a path below the dataset is named after, if it is."""
    return split_named(relative.parts[0]) if len(relative.parts) > 1 else None


def split_of_shard(relative: PurePath) -> str | None:
    """The split of a file of many samples: its folder's, or the word that its name begins with."""
    return split_of_folder(relative) or split_named(relative.stem.partition("-")[0].partition("_")[0])


def divide(images: Sequence[OwnImage], settings: OwnSettings, name: str) -> dict[str, list[OwnImage]]:
    """Images by split, ``train`` and ``val``, in the order given; those for testing are left out.

    Where no image says its split, ``settings.val_fraction`` of them, at least one, are for validation:
    those whose ids, hashed with the seed, come first. So the order of the data does not matter, and
    images that are added later move few others.

    Raises:
        InputError: some images have a split and others not, or a split would be empty.
    """
    without = [image for image in images if image.split is None]
    if without and len(without) < len(images):
        raise InputError(
            f"{without[0].where}: no split, though others have one; give every image a split, or none"
        )
    if without:
        return _by_seed(images, settings, name)
    parts = {split: [image for image in images if image.split == split] for split in ("train", "val")}
    for split, part in parts.items():
        if not part:
            raise InputError(
                f"{name}: no image has the split `{split}`; training needs both train and val images. "
                "Without any splits, download.own_data.val_fraction decides"
            )
    return parts


def _by_seed(images: Sequence[OwnImage], settings: OwnSettings, name: str) -> dict[str, list[OwnImage]]:
    if len(images) < 2:
        raise InputError(f"{name}: one image; expected at least two, for training and for validation")
    num_val = min(max(round(len(images) * settings.val_fraction), 1), len(images) - 1)
    ranked = sorted(images, key=lambda image: _rank(settings.seed, image.key))
    chosen = {image.key for image in ranked[:num_val]}
    return {
        "train": [image for image in images if image.key not in chosen],
        "val": [image for image in images if image.key in chosen],
    }


def _rank(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()
