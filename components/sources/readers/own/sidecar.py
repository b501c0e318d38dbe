"""A folder of images, each with a text of the same name beside it: ``x.jpg`` and ``x.txt``.

Every line of a text is a caption. Folders ``train/`` and ``val/`` are splits; any other folders are not.
"""

import os
from pathlib import Path

from components.core.errors import InputError
from components.core.image_files import UNDECODABLE, folded, is_image, is_utf8, printable
from components.sources.layout import read_text
from components.sources.readers.own.imagefolder import Listing
from components.sources.readers.own.named_files import identity_of
from components.sources.readers.own.sample import BESIDE_ANOTHER, OwnImage, OwnImages
from components.sources.readers.own.splits import split_of_folder
from components.sources.tally import Tally


def read_sidecars(root: Path, listing: Listing, images: OwnImages, tally: Tally) -> list[Path]:
    """Add the images by path, those without a text without captions.

    A text belongs to the image of its name, or of a name that differs in case or normal form alone.

    Returns:
        The texts that belong to images, sorted.

    Raises:
        InputError: a text is not UTF-8, or two images share one.
    """
    used: list[Path] = []
    for folder, names in listing:
        texts = [name for name in names if name.lower().endswith(".txt")]
        pictures = [name for name in names if is_image(name)]
        pairs = _pair(folder, pictures, texts, tally)
        for name, text in pairs.items():
            _add(root, folder / name, None if text is None else folder / text, images)
        found = {text for text in pairs.values() if text is not None}
        used += [folder / text for text in found if is_utf8(text)]
        for name in sorted({*names} - {*pictures} - found):
            what = "texts without an image" if name in texts else "files that are neither images nor texts"
            tally.leave_out(what, folder / name)
    return sorted(used)


def _pair(folder: Path, pictures: list[str], texts: list[str], tally: Tally) -> dict[str, str | None]:
    """The text of each image; an undecodable image gives way to another one of its name."""
    pairs: dict[str, str | None] = dict.fromkeys(pictures)
    owners: dict[str, str] = {}
    for key_of in (str, folded):  # exactly the same name comes first
        free = {key_of(_stem(text)): text for text in reversed(texts) if text not in owners}
        for name in sorted(pictures, key=lambda name: (name.lower().endswith(UNDECODABLE), name)):
            text = free.get(key_of(_stem(name)))
            if text is None or pairs.get(name, "") is not None:
                continue
            owner = owners.setdefault(text, name)
            if owner == name or identity_of(folder / owner) == identity_of(folder / name):
                pairs[name] = text
            elif name.lower().endswith(UNDECODABLE):
                tally.leave_out(BESIDE_ANOTHER, folder / name)
                del pairs[name]
            else:
                raise InputError(
                    f"{folder / text}: belongs to {owner} and to {name}; rename one image and its text"
                )
    return pairs


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _add(root: Path, path: Path, text: Path | None, images: OwnImages) -> None:
    relative = path.relative_to(root)
    image = OwnImage(relative.as_posix(), printable(path), path, split=split_of_folder(relative))
    if text is not None:
        lines = read_text(text, "captions, one a line").splitlines()
        image.captions = [line.strip() for line in lines if line.strip()]
    identity = identity_of(path)
    if identity is None:
        image.fault = f"no such image: {printable(path)}"
    images.add(image, identity or ("absent", path))
