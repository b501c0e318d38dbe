"""The data of a run: drawn, unpacked from archives, or used where they lie; verified there, never copied.

READERS says how each benchmark's dataset is read and verified, by its name in components.core.datasets.
"""

import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components import params
from components.core import machine, paths
from components.core.datasets import BENCHMARK_DATASETS, DATASETS
from components.core.errors import InputError
from components.core.files import sha256
from components.sources.contents import listing_sha256, named_listing_sha256
from components.sources.download.unpack import require_counts, unpack_dataset
from components.sources.drawn_world.world import draw_world
from components.sources.manifest import (
    CaptionedEntry,
    DatasetEntry,
    LvisEntry,
    Manifest,
    source_name,
    stored_path,
    write_parts,
)
from components.sources.readers import coco
from components.sources.readers.imagenet import verify_imagenet
from components.sources.readers.inaturalist import verify_inaturalist
from components.sources.readers.lvis import verify_lvis
from components.sources.readers.own.dataset import OwnDataset, is_own, read_own
from components.sources.readers.own.image_places import LeftOut
from components.sources.readers.own.sample import OwnSettings
from components.sources.readers.types import DatasetFolders, Verified
from components.sources.readers.voc import verify_voc2007
from components.sources.readers.voc_masks import verify_boxes_and_masks

Reader = Callable[[Path, DatasetFolders], Verified]
READERS: dict[str, Reader] = {
    "voc2007": verify_voc2007,
    "voc2012": verify_boxes_and_masks,
    "imagenet": verify_imagenet,
    "inaturalist": verify_inaturalist,
    "lvis": verify_lvis,
}
Figures = dict[str, Any]


def fill_datasets(
    download: params.Download, target: Path, *, skip_unreadable: bool, segmented: str
) -> tuple[Manifest, Figures, dict[str, list[LeftOut]]]:
    """Fill ``target``, which becomes data/datasets, and count what is in it.

    Args:
        skip_unreadable: leave out images of one's own that cannot be got, rather than to refuse.
        segmented: the captioned dataset whose objects become a part of the manifest.

    Returns:
        The manifest as it will be, the counts by dataset and split, and what was left out by dataset.

    Raises:
        InputError: data are missing, broken or inconsistent, or not all of a published dataset is there.
    """
    folders = SOURCES[download.source](download, target)
    own = OwnReading(
        settings=OwnSettings(**download.own_data.model_dump()),
        folder=target / paths.dataset_part("captions").parent.name,
        skip_unreadable=skip_unreadable,
    )
    manifest, figures = verify_folders(folders, download.source, own, download.published)
    for dataset in download.published:
        require_counts(dataset, (figures["captions"] if DATASETS[dataset].captioned else figures)[dataset])
    moved = manifest.moved(target, paths.DATASETS_DIR)
    write_parts(target, moved, segmented)
    return moved, figures, own.left_out


def draw(download: params.Download, target: Path) -> DatasetFolders:
    """Draw the world below ``target``."""
    world = download.drawn_world
    print(f"drawing {world.train_images} captioned training images and the other datasets", flush=True)
    draw_world(world, target, machine.num_cpus(), progress=sys.stderr.isatty())
    drawn = {"voc2007": target / "voc2007" / "VOCdevkit"}  # each of the others in a folder of its name
    benchmarks = {
        name: drawn.get(name, target / name) for name in BENCHMARK_DATASETS if (target / name).is_dir()
    }
    return DatasetFolders({"coco": target / "coco"}, benchmarks)


def use_folders(download: params.Download, target: Path) -> DatasetFolders:
    """Use the configured folders where they are; nothing is put below ``target``."""

    def stored(roots: Mapping[str, str]) -> dict[str, Path]:
        return {name: stored_path(Path(os.path.expanduser(root))) for name, root in roots.items()}

    captions = download.folders.captions
    tars = {name: place for name, place in captions.items() if params.is_on_server(place)}
    here = {name: place for name, place in captions.items() if name not in tars}
    return DatasetFolders(stored(here), stored(download.folders.benchmarks), tars)


def use_published(download: params.Download, target: Path) -> DatasetFolders:
    """Unpack the fetched archives where they are not yet unpacked; all else is where the folders say."""
    others = use_folders(download, target)
    captions: dict[str, Path] = {}
    benchmarks = dict(others.benchmarks)
    for name in download.published:
        root = unpack_dataset(name) / DATASETS[name].root
        (captions if DATASETS[name].captioned else benchmarks)[name] = root
    return DatasetFolders({**captions, **others.captions}, benchmarks, others.tars)


# One function for each value of `download.source`: it fills `target`, or nothing, and names the roots of what
# the run uses.
SOURCES: dict[str, Callable[[params.Download, Path], DatasetFolders]] = {
    "drawn_world": draw,
    "published": use_published,
    "folders": use_folders,
}


@dataclass
class OwnReading:
    """How captions of one's own are read, and what had to be left out of them.

    Attributes:
        settings: see there.
        folder: their indices, and images that are fetched, go into a folder of the dataset's name here.
        skip_unreadable: leave out images that cannot be got, rather than to refuse.
        left_out: those images, by dataset.
    """

    settings: OwnSettings
    folder: Path
    skip_unreadable: bool = False
    left_out: dict[str, list[LeftOut]] = field(default_factory=dict)


def verify_folders(
    folders: DatasetFolders, source: str, own: OwnReading | None = None, fetched: Collection[str] = ()
) -> tuple[Manifest, Figures]:
    """Read every dataset with its reader; what is missing, broken or inconsistent stops here.

    Args:
        folders: what to verify.
        source: the name of download's source, to say which key of params.yaml is at fault.
        own: for captions of one's own; None where all are in COCO layout.
        fetched: datasets that come from ``download@<dataset>``.

    Returns:
        The manifest, and the counts by dataset and split.

    Raises:
        InputError: begins with the key, ``download.<source>.<dataset>``, or with the stage.
    """
    figures: Figures = {"captions": {}}
    section = "folders" if source == "published" else source

    @contextmanager
    def faults_of(dataset: str, key: str) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            where = f"download@{dataset}" if dataset in fetched else f"download.{section}.{key}"
            raise InputError(f"{where}: {error}") from None

    captions: dict[str, CaptionedEntry] = {}
    for name, root in folders.captions.items():
        with faults_of(name, f"captions.{name}"):
            if own is not None and is_own(root):
                captions[name], figures["captions"][name] = _own(root, name, own)
            else:
                captions[name], figures["captions"][name] = _captioned(root, name)
    for name, urls in folders.tars.items():
        with faults_of(name, f"captions.{name}"):
            assert own is not None
            captions[name], figures["captions"][name] = _own(urls, name, own)
    benchmarks: dict[str, DatasetEntry | LvisEntry] = {}
    for name, root in folders.benchmarks.items():
        with faults_of(name, name):
            verified = READERS[name](root, folders)
            benchmarks[name] = _entry(root, verified)
            figures[name] = verified.figures
    return Manifest(source=source, captions=captions, benchmarks=benchmarks), figures


def _captioned(root: Path, dataset: str) -> tuple[CaptionedEntry, Figures]:
    verified = coco.verify_captions(root, dataset)
    num_captions = {split: of["captions"] for split, of in verified.figures.items()}
    return CaptionedEntry(**_described(root, verified), num_captions=num_captions), verified.figures


def _entry(root: Path, verified: Verified) -> DatasetEntry | LvisEntry:
    if verified.images_root is None:
        return DatasetEntry(**_described(root, verified))
    images_root = stored_path(verified.images_root).as_posix()
    return LvisEntry(**_described(root, verified), images_root=images_root)


def _described(root: Path, verified: Verified) -> dict[str, Any]:
    """Return the fields of a ``DatasetEntry``."""
    below = verified.images_root or root
    return {
        "root": stored_path(root).as_posix(),
        "annotations": {source_name(path, root): sha256(path) for path in verified.annotations},
        "images": {split: of["images"] for split, of in verified.figures.items()},
        "listings": {split: listing_sha256(below, paths) for split, paths in verified.files.items()},
    }


def _own(path: Path | str, dataset: str, own: OwnReading) -> tuple[CaptionedEntry, Figures]:
    folder = own.folder / dataset
    found = read_own(path, dataset, own.settings, folder, own.skip_unreadable)
    print(found.summary, flush=True)
    own.left_out[dataset] = found.left_out
    num_captions = {
        split: sum(len(image.captions) for image in images) for split, images in found.splits.items()
    }
    entry = CaptionedEntry(
        root=stored_path(found.root).as_posix(),
        annotations={source_name(source, found.root): sha256(source) for source in found.sources},
        images={split: len(images) for split, images in found.splits.items()},
        listings=_own_listings(found),
        num_captions=num_captions,
        index=stored_path(folder).as_posix(),
    )
    figures: Figures = {
        split: {"images": entry.images[split], "captions": num_captions[split]} for split in found.splits
    }
    return entry, figures | {
        "without_captions": found.without_captions,
        "for_testing": found.testing,
        "left_out": len(found.left_out),
    }


def _own_listings(found: OwnDataset) -> dict[str, str]:
    """Hash as ``listing_sha256`` images that may lie anywhere, also inside archives."""
    return {
        split: named_listing_sha256(
            {image.image_id: image.member.size if image.member else image.path for image in images}
        )
        for split, images in found.splits.items()
    }
