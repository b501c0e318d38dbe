"""Flickr8k as its authors publish it: captions in one text, a list of images for each split.

``Flickr8k.token.txt`` has lines such as ``1000268201.jpg#0<tab>A child in a pink dress .``; beside it lie
``Flickr_8k.trainImages.txt``, ``Flickr_8k.devImages.txt`` and ``Flickr_8k.testImages.txt``. The images lie
anywhere below the dataset's folder (officially in ``Flicker8k_Dataset``, spelled so).
"""

import re
from collections.abc import Sequence
from pathlib import Path

from components.core.errors import InputError
from components.core.foreign_text import printable
from components.sources.image_files import is_image
from components.sources.layout import Tally, read_text, shown
from components.sources.readers.own.image_places import identity_of
from components.sources.readers.own.sample import OwnImage, OwnImages

CAPTIONS = "Flickr8k.token.txt"
LISTS = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
_LINE = re.compile(r"(?P<image>[^\t]+)#\d+\t(?P<caption>.*)")

Listing = Sequence[tuple[Path, list[str]]]  # folders and the names of their files


def find_flickr8k(listing: Listing) -> Path | None:
    """Return the text with the captions, if this is Flickr8k."""
    return next((folder / CAPTIONS for folder, names in listing if CAPTIONS in names), None)


def read_flickr8k(captions_path: Path, listing: Listing, images: OwnImages, tally: Tally) -> list[Path]:
    """Add the images in the order of the lists; an image of none of them is left out and counted.

    Args:
        captions_path: as :func:`find_flickr8k` returns it; the lists lie beside it.
        listing: of the dataset's folder.
        images: where they go.
        tally: is told of what is left out.

    Returns:
        The text with the captions, and the lists.

    Raises:
        InputError: a list is missing, a line has no image and caption, or an image is in two lists.
    """
    captions = _read_captions(captions_path)
    lists = {split: captions_path.parent / name for split, name in LISTS.items()}
    places = {name: folder / name for folder, names in listing for name in names if is_image(name)}
    split_of: dict[str, str] = {}
    for split, path in lists.items():
        for number, line in enumerate(read_text(path, f"images of the {split} split").splitlines(), 1):
            name = line.strip()
            if not name:
                continue
            if split_of.setdefault(name, split) != split:
                raise InputError(f"{path}: line {number}: {name!r} is in {lists[split_of[name]].name} too")
            place = places.get(name, captions_path.parent / name)
            image = OwnImage(name, f"{path}: line {number}", place, split=split)
            image.captions = captions.get(name, [])
            if name not in places:
                image.fault = f"no such image: {printable(name)}"
            images.add(image, identity_of(place) or ("absent", name))
    for name in sorted((captions.keys() | places.keys()) - split_of.keys()):
        tally.leave_out("images that are in no split's list", name)
    sources = [captions_path, *lists.values()]
    for folder, names in listing:
        for name in names:
            if not is_image(name) and folder / name not in sources:
                tally.leave_out("files that are neither images nor the texts that are read", folder / name)
    return sources


def _read_captions(path: Path) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(read_text(path, "captions, one per line").splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise InputError(
                f"{path}: line {number}: expected an image, #, a number, a tab and a caption, "
                f"found {shown(line)}"
            )
        captions.setdefault(match["image"], []).append(match["caption"].strip())
    return captions
