"""A folder of images, each with a text of the same name beside it: ``x.jpg`` and ``x.txt``.

Every line of a text is a caption. Folders ``train/`` and ``val/`` are splits; any other folders are not.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from components.errors import InputError
from components.sources.layout import read_text
from components.sources.own.sample import IMAGE_SUFFIXES, OwnImage
from components.sources.own.splits import split_of_folder


def read_sidecars(root: Path) -> list[OwnImage]:
    """Images by path; those without a text have no captions.

    Raises:
        InputError: a text is not UTF-8, or two images share one.
    """
    images: list[OwnImage] = []
    texts: dict[Path, str] = {}
    for path, text in _pairs(root):
        key = path.relative_to(root).as_posix()
        image = OwnImage(key, str(path), path, split=split_of_folder(path.relative_to(root)))
        if text is not None:
            if text in texts:
                raise InputError(
                    f"{text}: belongs to {texts[text]} and to {key}; rename one image and its text"
                )
            texts[text] = key
            lines = read_text(text, "captions, one a line").splitlines()
            image.captions = [line.strip() for line in lines if line.strip()]
        images.append(image)
    return images


def text_paths(root: Path) -> list[Path]:
    """All texts that belong to images."""
    return sorted({text for _, text in _pairs(root) if text is not None})


def _pairs(root: Path) -> Iterator[tuple[Path, Path | None]]:
    for folder, folders, names in os.walk(root):
        folders.sort()
        present = set(names)
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                text = f"{stem}.txt"
                yield Path(folder, name), Path(folder, text) if text in present else None
