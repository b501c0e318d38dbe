"""Captions of one's own, in any supported format, to an index of each split."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import InputError
from components.core.foreign_text import printable
from components.sources.download.tar_cache import machine_cache
from components.sources.image_files import is_image, walk
from components.sources.layout import Tally
from components.sources.readers.own.image_folder import (
    count_others,
    find_metadata,
    find_parquet,
    read_sidecars,
    read_tables,
)
from components.sources.readers.own.image_places import LeftOut, PackedImages, fetch_urls
from components.sources.readers.own.index import write_index
from components.sources.readers.own.published import (
    find_flickr8k,
    find_redcaps,
    find_sbu,
    is_redcaps_folder,
    read_flickr8k,
    sbu_records,
)
from components.sources.readers.own.remote_shards import read_remote_shards
from components.sources.readers.own.rows import COMPRESSED, SUFFIXES, kind_of
from components.sources.readers.own.sample import OwnImage, OwnImages, OwnSettings, divide
from components.sources.readers.own.shards import find_shards, read_shards
from components.sources.readers.own.table import TableReader
from components.sources.readers.types import CaptionedImage

EMBEDDED_NAME = "embedded.tar"

FORMS = (
    "a dataset in COCO layout (annotations/captions_train2017.json, train2017/, val2017/), a table "
    f"({', '.join(SUFFIXES)}; texts also as {', '.join(COMPRESSED)}) of images and captions, a folder of "
    "images with a .txt of the same name beside each or with Hugging Face's metadata.jsonl or metadata.csv, "
    "a folder of Parquet files, Flickr8k, RedCaps or SBU Captions as published (Flickr8k.token.txt, "
    "abandoned_2017.json, SBU_captioned_photo_dataset_urls.txt), or WebDataset tars (a folder of them, or a "
    "pattern such as photos/*.tar)"
)


@dataclass(frozen=True, slots=True)
class OwnDataset:
    """What became of it.

    Attributes:
        root: folder that its files' paths are relative to.
        sources: the files that hold the captions.
        splits: images by split.
        without_captions: images left out because nobody wrote about them.
        testing: images left out because they are for testing.
        left_out: images that could not be got.
        summary: one line for people: what was taken, what was left out and why.
    """

    root: Path
    sources: list[Path]
    splits: dict[str, list[CaptionedImage]]
    without_captions: int
    testing: int
    left_out: list[LeftOut]
    summary: str


def is_own(path: Path) -> bool:
    """Return whether ``path`` is read here, not as COCO's layout, which is a folder with ``annotations/``."""
    if path.is_dir():
        return not (path / "annotations").is_dir() or is_redcaps_folder(path)
    return path.suffix.lower() == ".tar" or kind_of(path) is not None


def read_own(
    path: Path | str, dataset: str, settings: OwnSettings, folder: Path, skip_unreadable: bool
) -> OwnDataset:
    """Read a dataset, fetch what are URLs, write the index of each split into ``folder``.

    Args:
        path: a table, a folder or a pattern; see ``FORMS``; a text: tars on a server.
        dataset: its name.
        settings: columns, division, connections.
        folder: where the indices go, and the images that are fetched or lie inside tables.
        skip_unreadable: leave out images that are missing or cannot be fetched, rather than to refuse.

    Raises:
        InputError: says which file, row and column, and what was expected there.
    """
    tally = Tally()
    lost: list[LeftOut] = []
    if isinstance(path, Path):
        root, sources, images = _read(path, settings, folder, tally)
    else:
        root, sources, found = folder, [], OwnImages(tally)
        lost = read_remote_shards(
            path, folder, settings, found, tally, cache=machine_cache(), skip_unreadable=skip_unreadable
        )
        images = found.listed()
    captioned = [image for image in images if image.captions]
    wanted = [image for image in captioned if image.split != "test"]
    if not wanted:
        counted = tally.line("of what lies there", f"{len(images)} images")
        raise InputError(f"{path}: no image with a caption ({counted}); expected {FORMS}")
    for image in images:
        if not image.captions:
            tally.leave_out("images without a caption", image.where)
        elif image.split == "test":
            tally.leave_out("images for testing", image.where)
    present, faulty = _present(wanted, skip_unreadable)
    divide(present, settings, str(path))  # a division that cannot be is said before hours of fetching
    kept, unfetched = fetch_urls(present, dataset, folder, settings.url_connections, skip_unreadable)
    splits = {
        split: [_captioned(image, dataset) for image in part]
        for split, part in divide(kept, settings, str(path)).items()
    }
    for split, of_split in splits.items():
        write_index(folder, split, root, of_split)
    left_out = [*lost, *faulty, *unfetched]
    if lost:
        tally.leave_out("tars that cannot be read", f"{lost[0].where}: {lost[0].reason}", len(lost))
    if faulty or unfetched:
        first = [*faulty, *unfetched][0]
        tally.leave_out(
            "images that cannot be got", f"{first.where}: {first.reason}", len(faulty) + len(unfetched)
        )
    taken = [image for of_split in splits.values() for image in of_split]
    num_captions = sum(len(image.captions) for image in taken)
    return OwnDataset(
        root=root,
        sources=sources,
        splits=splits,
        without_captions=len(images) - len(captioned),
        testing=len(captioned) - len(wanted),
        left_out=left_out,
        summary=tally.line(dataset, f"{len(taken):,} images and {num_captions:,} captions"),
    )


def _read(
    path: Path, settings: OwnSettings, folder: Path, tally: Tally
) -> tuple[Path, list[Path], list[OwnImage]]:
    """Return the root, the files with the captions, and the images."""
    images = OwnImages(tally)
    with PackedImages(folder / EMBEDDED_NAME) as packed:
        reader = TableReader(settings, images, packed, tally)
        if path.is_file() and kind_of(path) is not None:
            reader.read(path, path.parent)
            return path.parent, [path], images.listed()
        listing = list(walk(path, tally.leave_out)) if path.is_dir() else []
        if captions := find_flickr8k(listing):
            return path, read_flickr8k(captions, listing, images, tally), images.listed()
        if tables := find_redcaps(listing):
            read_tables(path, tables, listing, reader, images, tally, are_split=False)
            return path, tables, images.listed()
        if texts := find_sbu(listing):
            reader.read_urls(sbu_records(*texts), path)
            count_others(texts, listing, images, tally)
            return path, list(texts), images.listed()
        if metadata := find_metadata(listing):
            read_tables(path, metadata, listing, reader, images, tally)
            return path, metadata, images.listed()
        if found := find_shards(path, listing):
            root = path if path.is_dir() else Path(os.path.commonpath([shard.parent for shard in found]))
            read_shards(found, root, settings, images, tally)
            others = [folder / name for folder, names in listing for name in names]
            for other in sorted({*others} - {*found}):
                tally.leave_out("files beside the archives", other)
            return root, found, images.listed()
        if tables := find_parquet(listing):
            read_tables(path, tables, listing, reader, images, tally)
            return path, tables, images.listed()
        if not path.is_dir():
            raise InputError(f"{os.path.abspath(path)}: does not exist; expected {FORMS}")
        return path, read_sidecars(path, listing, images, tally), images.listed()


def _present(images: Sequence[OwnImage], skip_unreadable: bool) -> tuple[list[OwnImage], list[LeftOut]]:
    faulty = [image for image in images if image.fault is not None]
    if faulty and (not skip_unreadable or len(faulty) == len(images)):
        first = faulty[0]
        hint = ""
        if any(is_image(caption) for caption in first.captions):
            hint = "Its caption looks like an image's name: are the columns the wrong way round? "
        raise InputError(
            f"{first.where}: {first.fault} ({len(faulty)} of {len(images)} images cannot be got). {hint}"
            "Paths in a table are relative to its folder; complete the images, or set "
            "lmdb.on_unreadable to skip to leave such images out"
        )
    left_out = [LeftOut(image.where, printable(image.key), str(image.fault)) for image in faulty]
    return [image for image in images if image.fault is None], left_out


def _captioned(image: OwnImage, dataset: str) -> CaptionedImage:
    assert image.path is not None
    return CaptionedImage(
        image_id=f"{dataset}/{image.key}",
        dataset=dataset,
        path=image.path,
        captions=tuple(image.captions),
        member=image.member,
        tar=image.tar,
    )
