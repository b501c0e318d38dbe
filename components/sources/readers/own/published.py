"""Published tables of URLs, in the very files of their authors: RedCaps, SBU Captions, Conceptual Captions.

RedCaps: ``annotations/<subreddit>_<year>.json``, each ``{"info": ..., "annotations": [...]}`` whose records
have ``image_id``, ``subreddit``, ``url``, ``caption``, ``raw_caption`` and others; beside them, where
redcaps-downloader has run, ``images/<subreddit>/<image_id>.jpg``. SBU: one object of lists, ``image_urls``
and ``captions``, or two texts whose lines belong together. Conceptual Captions: two columns and no header.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.sources.layout import read_text, shown

Listing = Sequence[tuple[Path, list[str]]]  # folders and the names of their files

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
