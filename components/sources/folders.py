"""Datasets that lie on this disk: verified where they are, described in a manifest, never copied."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from components.core.errors import InputError
from components.sources.contents import listing_sha256, named_listing_sha256
from components.sources.manifest import (
    CaptionedEntry,
    DatasetEntry,
    LvisEntry,
    Manifest,
    sha256,
    source_name,
    stored_path,
)
from components.sources.readers import coco, imagenet, inaturalist, lvis, voc
from components.sources.readers.classified import ClassifiedImages
from components.sources.readers.own.dataset import OwnDataset, is_own, read_own
from components.sources.readers.own.fetched import LeftOut
from components.sources.readers.own.sample import OwnSettings
from components.sources.tally import Tally

EntryT = TypeVar("EntryT", bound=DatasetEntry)
Figures = dict[str, Any]


@dataclass(frozen=True)
class DatasetFolders:
    """Roots of datasets in their published layouts; see the reader of each for what it expects.

    Captions may come in other forms too: see components.sources.readers.own.dataset.

    LVIS has no images of its own: they are taken from its root when ``train2017/`` lies there, else from
    the first captioned dataset that has one.
    """

    captions: Mapping[str, Path]
    voc2007: Path | None = None
    imagenet: Path | None = None
    inaturalist: Path | None = None
    lvis: Path | None = None
    voc2012: Path | None = None


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

    def fault(dataset: str, key: str, error: InputError) -> InputError:
        return InputError(
            f"download@{dataset}: {error}" if dataset in fetched else f"download.{section}.{key}: {error}"
        )

    def checked(
        key: str, verify: Callable[..., tuple[EntryT, Figures]], root: Path | None, *more: Any
    ) -> EntryT | None:
        if root is None:
            return None
        try:
            entry, figures[key] = verify(root, *more)
        except InputError as error:
            raise fault(key, key, error) from None
        return entry

    captions: dict[str, CaptionedEntry] = {}
    for name, root in folders.captions.items():
        try:
            if own is not None and is_own(root):
                captions[name], figures["captions"][name] = _own(root, name, own)
            else:
                captions[name], figures["captions"][name] = _captioned(root, name)
        except InputError as error:
            raise fault(name, f"captions.{name}", error) from None

    manifest = Manifest(
        source=source,
        captions=captions,
        voc2007=checked("voc2007", _voc2007, folders.voc2007),
        voc2012=checked("voc2012", _voc2012, folders.voc2012, folders.voc2007),
        imagenet=checked("imagenet", _imagenet, folders.imagenet),
        inaturalist=checked("inaturalist", _inaturalist, folders.inaturalist),
        lvis=checked("lvis", _lvis, folders.lvis, list(folders.captions.values())),
    )
    return manifest, figures


def _captioned(root: Path, dataset: str) -> tuple[CaptionedEntry, Figures]:
    tally = Tally()
    splits = {
        split: coco.read_captions(root, split, dataset, tally.leave_out, tally.note) for split in coco.SPLITS
    }
    paths = [coco.annotation_path(root, "captions", split) for split in coco.SPLITS]
    num_captions = {split: sum(len(image.captions) for image in images) for split, images in splits.items()}
    num_images = sum(map(len, splits.values()))
    print(
        tally.line(dataset, f"{num_images:,} images and {sum(num_captions.values()):,} captions"), flush=True
    )
    figures: Figures = {
        split: {"images": len(images), "captions": num_captions[split]} for split, images in splits.items()
    }
    files = {split: {image.path for image in images} for split, images in splits.items()}
    for split in coco.SPLITS:
        if (path := coco.annotation_path(root, "instances", split)).exists():
            paths.append(path)
            parsed = coco.read_instances(root, split)
            figures[split]["objects"] = coco.count_objects(parsed)
            files[split] |= {coco.images_dir(root, split) / image["file_name"] for image in parsed["images"]}
    described = _described(root, paths, files)
    described["images"] = {split: len(images) for split, images in splits.items()}
    return CaptionedEntry(**described, num_captions=num_captions), figures


def _own(path: Path, dataset: str, own: OwnReading) -> tuple[CaptionedEntry, Figures]:
    folder = own.folder / dataset
    found = read_own(path, dataset, own.settings, folder, own.skip_unreadable)
    print(found.summary, flush=True)
    own.left_out[dataset] = found.left_out
    num_captions = {
        split: sum(len(image.captions) for image in images) for split, images in found.splits.items()
    }
    entry = CaptionedEntry(
        root=stored_path(found.root).as_posix(),
        annotations={source_name(path, found.root): sha256(path) for path in found.sources},
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
    """As ``listing_sha256``, of images that may lie anywhere, also inside archives."""
    return {
        split: named_listing_sha256(
            {image.image_id: image.member.size if image.member else image.path for image in images}
        )
        for split, images in found.splits.items()
    }


def _voc2012(root: Path, voc2007: Path | None) -> tuple[DatasetEntry, Figures]:
    images = voc.read_annotated_images(root, "trainval", 2012)
    classes = voc.read_voc07(voc2007, "trainval").classes if voc2007 is not None else ()
    voc.read_annotations(root, images, 2012, classes)
    lists = [voc.image_sets_dir(root, 2012) / "trainval.txt"]
    return _voc_entry(root, lists, {"trainval": images}, 2012), {"trainval": {"images": len(images)}}


def _voc_entry(root: Path, lists: list[Path], images: Mapping[str, list[Path]], year: int) -> DatasetEntry:
    """The listings are also over the boxes, which have a file an image."""
    files = {
        split: [*paths, *(voc.annotation_path(root, path.stem, year) for path in paths)]
        for split, paths in images.items()
    }
    described = _described(root, lists, files)
    return DatasetEntry(**described | {"images": {split: len(paths) for split, paths in images.items()}})


def _voc2007(root: Path) -> tuple[DatasetEntry, Figures]:
    splits = {split: voc.read_voc07(root, split) for split in voc.SPLITS}
    if splits["trainval"].classes != splits["test"].classes:
        differing = sorted(set(splits["trainval"].classes) ^ set(splits["test"].classes))
        raise InputError(f"{root}: trainval and test have different classes, such as {differing[0]}")
    figures: Figures = {}
    for split, images in splits.items():
        annotations = voc.read_annotations(root, images.image_paths, classes=images.classes)
        objects = Counter(thing.name for annotation in annotations for thing in annotation.objects)
        figures[split] = {
            "images": len(images.image_paths),
            "objects": {name: objects[name] for name in images.classes},
            "positive_images": dict(
                zip(images.classes, (images.labels == 1).sum(axis=0).tolist(), strict=True)
            ),
            "difficult_objects": sum(thing.difficult for found in annotations for thing in found.objects),
        }
    lists = [path for split in voc.SPLITS for path in voc.list_paths(root, split)]
    files = {split: images.image_paths for split, images in splits.items()}
    return _voc_entry(root, lists, files, 2007), figures


def _imagenet(root: Path) -> tuple[DatasetEntry, Figures]:
    tally = Tally()
    splits = {split: imagenet.read_imagenet(root, split, tally) for split in imagenet.SPLITS}
    num_images = sum(len(images.image_paths) for images in splits.values())
    print(
        tally.line("imagenet", f"{num_images:,} images of {len(splits['train'].classes):,} classes"),
        flush=True,
    )
    return _classified(root, splits, [])


def _inaturalist(root: Path) -> tuple[DatasetEntry, Figures]:
    splits = {split: inaturalist.read_inaturalist(root, split) for split in inaturalist.SPLITS}
    if splits["train"].classes != splits["val"].classes:
        raise InputError(f"{root}: train and val list different categories; are they of the same year?")
    return _classified(root, splits, [inaturalist.annotation_path(root, split) for split in splits])


def _classified(
    root: Path, splits: Mapping[str, ClassifiedImages], paths: list[Path]
) -> tuple[DatasetEntry, Figures]:
    figures = {
        split: {"images": len(images.image_paths), "classes": len(images.classes)}
        for split, images in splits.items()
    }
    files = {split: images.image_paths for split, images in splits.items()}
    return DatasetEntry(**_described(root, paths, files)), figures


def _lvis(root: Path, captioned_roots: list[Path]) -> tuple[LvisEntry, Figures]:
    images_root = next(
        (folder for folder in (root, *captioned_roots) if (folder / "train2017").is_dir()), root
    )
    splits = {split: lvis.read_lvis(root, split, images_root) for split in lvis.SPLITS}
    figures = {
        split: {
            "images": len(parsed["images"]),
            "objects": len(parsed["annotations"]),
            "classes": len(parsed["categories"]),
        }
        for split, parsed in splits.items()
    }
    paths = {split: lvis.annotation_path(root, split) for split in splits}
    files = {
        split: [images_root / lvis.image_name(paths[split], image) for image in parsed["images"]]
        for split, parsed in splits.items()
    }
    described = _described(root, list(paths.values()), files, images_root)
    return LvisEntry(**described, images_root=stored_path(images_root).as_posix()), figures


def _described(
    root: Path,
    annotation_paths: list[Path],
    files: Mapping[str, Collection[Path]],
    images_root: Path | None = None,
) -> dict[str, Any]:
    """The fields of a ``DatasetEntry``."""
    return {
        "root": stored_path(root).as_posix(),
        "annotations": {source_name(path, root): sha256(path) for path in annotation_paths},
        "images": {split: len(paths) for split, paths in files.items()},
        "listings": {split: listing_sha256(images_root or root, paths) for split, paths in files.items()},
    }
