"""Published captions in the very files of their authors: Flickr8k, and three tables of URLs.

Flickr8k: ``Flickr8k.token.txt`` has lines such as ``1000268201.jpg#0<tab>A child in a pink dress .``; beside
it lie ``Flickr_8k.trainImages.txt``, ``Flickr_8k.devImages.txt`` and ``Flickr_8k.testImages.txt``. The images
lie anywhere below the dataset's folder (officially in ``Flicker8k_Dataset``, spelled so).

RedCaps: ``annotations/<subreddit>_<year>.json``, each ``{"info": ..., "annotations": [...]}`` whose records
have ``image_id``, ``subreddit``, ``url``, ``caption``, ``raw_caption`` and others; beside them, where
redcaps-downloader has run, ``images/<subreddit>/<image_id>.jpg``. SBU Captions: one object of lists,
``image_urls`` and ``captions``, or two texts whose lines belong together. Conceptual Captions: two columns
and no header.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.core.foreign_text import printable
from components.sources.image_files import Listing, is_image
from components.sources.layout import Tally, read_text, shown
from components.sources.readers.own.image_places import identity_of
from components.sources.readers.own.sample import OwnImage, OwnImages

FLICKR8K_CAPTIONS = "Flickr8k.token.txt"
FLICKR8K_LISTS = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
_FLICKR8K_LINE = re.compile(r"(?P<image>[^\t]+)#\d+\t(?P<caption>.*)")
_REDCAPS_FILE = re.compile(r"\w+_20\d\d(-\d{1,2})?\.json", re.ASCII)
_REDCAPS_HEAD = re.compile(rb'\s*\{\s*"(info|annotations)"\s*:')
_HEAD_BYTES = 200
URL = "url"
_REDCAPS_KEYS = {"image_id", URL, "caption"}
_SBU_LISTS = ("image_urls", "captions")
SBU_TEXTS = ("SBU_captioned_photo_dataset_urls.txt", "SBU_captioned_photo_dataset_captions.txt")


def find_redcaps(listing: Listing) -> list[Path]:
    """Return RedCaps' annotation files, sorted."""
    named = (folder / name for folder, names in listing for name in names if _REDCAPS_FILE.fullmatch(name))
    return sorted(path for path in named if _is_redcaps(path))


def _is_redcaps(path: Path) -> bool:
    with path.open("rb") as file:
        return _REDCAPS_HEAD.match(file.read(_HEAD_BYTES)) is not None


def is_redcaps_folder(path: Path) -> bool:
    """Return whether RedCaps' files lie in ``path``/annotations, where COCO's layout has its own."""
    names = [file.name for file in (path / "annotations").iterdir()]
    return not any(name.startswith("captions_") for name in names) and bool(
        find_redcaps([(path / "annotations", names)])
    )


def records_within(path: Path, document: dict[str, Any]) -> list[Any] | None:
    """Return the records of a file of RedCaps or SBU; None if it is neither.

    Raises:
        InputError: a record of RedCaps lacks a key, or SBU's lists have different lengths.
    """
    if all(isinstance(document.get(key), list) for key in _SBU_LISTS):
        urls, captions = (document[key] for key in _SBU_LISTS)
        if len(urls) != len(captions):
            raise InputError(f"{path}: {len(urls)} image_urls and {len(captions)} captions; expected as many")
        return [{URL: url, "caption": caption} for url, caption in zip(urls, captions, strict=True)]
    records = document.get("annotations")
    if not isinstance(records, list) or "images" in document:
        return None
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict) or not record.keys() >= _REDCAPS_KEYS:
            raise InputError(
                f"{path}: annotation {number}: expected an object with {', '.join(sorted(_REDCAPS_KEYS))}, "
                f"as RedCaps has, found {shown(record)}"
            )
    return list(_with_files(path, records))


def is_of_urls(names: Sequence[str]) -> bool:
    """Return whether a record with these keys is one of `records_within`, whose images are in ``url``."""
    return {*names} == {URL, "caption"} or {*names} >= _REDCAPS_KEYS


def _with_files(path: Path, records: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Put in the place of a URL the file that redcaps-downloader has made of it, where there is one."""
    found: dict[str, set[str]] = {}
    for record in records:
        subreddit, name = str(record.get("subreddit")), f"{record['image_id']}.jpg"
        if subreddit not in found:
            folder = path.parent.parent / "images" / subreddit
            found[subreddit] = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
        yield {**record, URL: f"../images/{subreddit}/{name}"} if name in found[subreddit] else record


def find_sbu(listing: Listing) -> tuple[Path, Path] | None:
    """Return the texts with URLs and captions, if this is SBU."""
    for folder, names in listing:
        if {*SBU_TEXTS} <= {*names}:
            return folder / SBU_TEXTS[0], folder / SBU_TEXTS[1]
    return None


def sbu_records(urls: Path, captions: Path) -> Iterator[tuple[str, str, str]]:
    """Yield where a pair is, its URL and its caption.

    Raises:
        InputError: the texts have different numbers of lines.
    """
    texts = (read_text(urls, "URLs, one per line"), read_text(captions, "captions, one per line"))
    lines = [text.removesuffix("\n").split("\n") for text in texts]
    if len(lines[0]) != len(lines[1]):
        raise InputError(
            f"{captions}: {len(lines[1])} lines, and {urls.name} has {len(lines[0])}; fetch both again"
        )
    for number, (url, caption) in enumerate(zip(*lines, strict=True), 1):
        yield f"{urls}: line {number}", url, caption


def implied_header(line: str, separator: str, image: str, caption: str) -> str | None:
    """Return the header that a table lacks whose first line is a caption and a URL, in either order.

    Args:
        line: the first one.
        separator: of its cells.
        image: name of the column of images.
        caption: of captions.
    """
    cells = next(csv.reader([line], delimiter=separator), [])
    are_urls = [cell.strip().lower().startswith(("http://", "https://")) for cell in cells]
    if len(cells) != 2 or sum(are_urls) != 1:
        return None
    return separator.join(image if is_url else caption for is_url in are_urls) + "\n"


def find_flickr8k(listing: Listing) -> Path | None:
    """Return the text with the captions, if this is Flickr8k."""
    return next((folder / FLICKR8K_CAPTIONS for folder, names in listing if FLICKR8K_CAPTIONS in names), None)


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
    captions = _flickr8k_captions(captions_path)
    lists = {split: captions_path.parent / name for split, name in FLICKR8K_LISTS.items()}
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


def _flickr8k_captions(path: Path) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(read_text(path, "captions, one per line").splitlines(), 1):
        match = _FLICKR8K_LINE.fullmatch(line)
        if match is None:
            raise InputError(
                f"{path}: line {number}: expected an image, #, a number, a tab and a caption, "
                f"found {shown(line)}"
            )
        captions.setdefault(match["image"], []).append(match["caption"].strip())
    return captions
