"""A folder of images with their captions in texts beside them, or in tables.

Texts: ``x.jpg`` and ``x.txt``; every line is a caption. Folders ``train/`` and ``val/`` are splits; any
other folders are not.

Tables: Hugging Face's imagefolder (images, and a ``metadata`` table that names them in a column
``file_name``), or Parquet files that hold the images themselves. A table of metadata may lie in each of
``train/``, ``validation/`` and ``test/``, or one above them all; a Parquet file's split is the folder it
lies in or the word its name begins with, as a shard's.
"""

import os
from collections.abc import Collection
from pathlib import Path

from components.core.errors import InputError
from components.core.foreign_text import printable
from components.sources.image_files import UNDECODABLE, Listing, folded, is_image, is_utf8
from components.sources.layout import Tally, read_text
from components.sources.readers.own import rows
from components.sources.readers.own.image_places import identity_of
from components.sources.readers.own.sample import (
    BESIDE_ANOTHER,
    OwnImage,
    OwnImages,
    split_of_folder,
    split_of_shard,
)
from components.sources.readers.own.table import FILE_NAME, TableReader

_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_HEAD_BYTES = 2**16


def find_metadata(listing: Listing) -> list[Path]:
    """Return the tables of metadata, sorted; files of this name without the column are others' business."""
    found = [folder / name for folder, names in listing for name in names if name.lower() in _METADATA]
    return sorted(path for path in found if _names_files(path))


def _names_files(path: Path) -> bool:
    if path.suffix.lower() == ".parquet":
        return FILE_NAME in rows.parquet_columns(path)
    with path.open("rb") as file:
        return FILE_NAME.encode() in file.read(_HEAD_BYTES)


def find_parquet(listing: Listing) -> list[Path]:
    """Return the Parquet files, sorted, of a folder without image files, beside which they are not ours."""
    if any(is_image(name) for _, names in listing for name in names):
        return []
    return sorted(
        folder / name for folder, names in listing for name in names if name.lower().endswith(".parquet")
    )


def read_tables(
    root: Path,
    tables: list[Path],
    listing: Listing,
    reader: TableReader,
    images: OwnImages,
    tally: Tally,
    *,
    are_split: bool = True,
) -> None:
    """Read the tables of a folder, and count what else lies there; names are of splits if ``are_split``.

    Raises:
        InputError: see :meth:`TableReader.read`.
    """

    def split_of(path: Path) -> str | None:
        if not are_split or not path.is_relative_to(root):
            return None
        relative = path.relative_to(root)
        return split_of_folder(relative) or (split_of_shard(relative) if path in tables else None)

    for table in tables:
        reader.read(table, root, split_of)
    count_others(tables, listing, images, tally)


def count_others(tables: Collection[Path], listing: Listing, images: OwnImages, tally: Tally) -> None:
    """Count the files of a folder that are neither read nor named by the tables that are."""
    for folder, names in listing:
        for name in names:
            path = folder / name
            if path in tables:
                continue
            if not is_image(name):
                tally.leave_out("files that are neither images nor the tables that are read", path)
            elif identity_of(path) not in images:
                tally.leave_out("images that no table names", path)


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
    """Return the text of each image; an undecodable image gives way to another one of its name."""
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
        lines = read_text(text, "captions, one per line").splitlines()
        image.captions = [line.strip() for line in lines if line.strip()]
    identity = identity_of(path)
    if identity is None:
        image.fault = f"no such image: {printable(path)}"
    images.add(image, identity or ("absent", path))
