"""Captions of one's own, in any of the forms that are taken, to an index of each split."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.errors import InputError
from components.sources.captioned import CaptionedImage
from components.sources.own import shards, sidecar, table
from components.sources.own.fetched import LeftOut, fetch_urls
from components.sources.own.index import write_index
from components.sources.own.sample import OwnImage, OwnSettings
from components.sources.own.splits import divide

FORMS = (
    "a dataset in COCO layout (annotations/captions_train2017.json, train2017/, val2017/), a table "
    f"({', '.join(table.SUFFIXES)}) of images and captions, a folder of images with a .txt of the same name "
    "beside each, or WebDataset tars (a folder of them, or a pattern such as photos/*.tar)"
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
    """

    root: Path
    sources: list[Path]
    splits: dict[str, list[CaptionedImage]]
    without_captions: int
    testing: int
    left_out: list[LeftOut]


def is_own(path: Path) -> bool:
    """Whether ``path`` is read here, and not as COCO's layout, which is a folder with ``annotations/``."""
    if path.is_dir():
        return not (path / "annotations").is_dir()
    return path.suffix.lower() in (*table.SUFFIXES, ".tar")


def read_own(
    path: Path, dataset: str, settings: OwnSettings, folder: Path, skip_unreadable: bool
) -> OwnDataset:
    """Read a dataset, fetch what are URLs, write the index of each split into ``folder``.

    Args:
        path: a table, a folder or a pattern; see ``FORMS``.
        dataset: its name.
        settings: columns, division, connections.
        folder: where the indices go, and the images that are fetched.
        skip_unreadable: leave out images that are missing or cannot be fetched, rather than to refuse.

    Raises:
        InputError: says which file, row and column, and what was expected there.
    """
    root, sources, images = _read(path, settings)
    captioned = [image for image in images if image.captions]
    wanted = [image for image in captioned if image.split != "test"]
    if not wanted:
        raise InputError(f"{path}: none of its {len(images)} images has a caption; expected {FORMS}")
    present, absent = _present(wanted, path, skip_unreadable)
    divide(present, settings, str(path))  # a division that cannot be is said before hours of fetching
    kept, left_out = fetch_urls(present, dataset, folder, settings.url_connections, skip_unreadable)
    splits = {
        split: [_captioned(image, dataset) for image in part]
        for split, part in divide(kept, settings, str(path)).items()
    }
    for split, of_split in splits.items():
        write_index(folder, split, root, of_split)
    return OwnDataset(
        root=root,
        sources=sources,
        splits=splits,
        without_captions=len(images) - len(captioned),
        testing=len(captioned) - len(wanted),
        left_out=[*absent, *left_out],
    )


def _read(path: Path, settings: OwnSettings) -> tuple[Path, list[Path], list[OwnImage]]:
    """The root, the files with the captions, and the images."""
    if path.is_file() and path.suffix.lower() in table.SUFFIXES:
        return path.parent, [path], table.read_table(path, settings)
    found = shards.find_shards(path)
    if found:
        root = path if path.is_dir() else Path(os.path.commonpath([shard.parent for shard in found]))
        return root, found, shards.read_shards(found, root, settings)
    if not path.is_dir():
        raise InputError(f"{os.path.abspath(path)}: nothing there; expected {FORMS}")
    return path, sidecar.text_paths(path), sidecar.read_sidecars(path)


def _present(
    images: Sequence[OwnImage], path: Path, skip_unreadable: bool
) -> tuple[list[OwnImage], list[LeftOut]]:
    absent = [image for image in images if image.path is not None and not image.path.is_file()]
    if absent and not skip_unreadable:
        first = absent[0]
        raise InputError(
            f"{first.where}: no such image: {first.path} ({len(absent)} of {len(images)} are missing). Paths "
            "in a table are relative to its folder; complete the images, or set lmdb.on_unreadable to skip "
            "to leave such images out"
        )
    missing = {image.key for image in absent}
    if len(missing) == len(images):
        raise InputError(f"{path}: not one of its {len(images)} images is there; first {absent[0].path}")
    left_out = [LeftOut(image.where, image.key, "no such file") for image in absent]
    return [image for image in images if image.key not in missing], left_out


def _captioned(image: OwnImage, dataset: str) -> CaptionedImage:
    assert image.path is not None
    return CaptionedImage(
        image_id=f"{dataset}/{image.key}",
        dataset=dataset,
        path=image.path,
        captions=tuple(image.captions),
        member=image.member,
    )
