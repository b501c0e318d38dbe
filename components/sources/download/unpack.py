"""The unpacked archives: files that neither git nor DVC knows, made again whenever they are missing.

``datasets/unpacked/<dataset>-<key>/``, the key being that of the archives, so that the files there are
always those of the archives on record; several workspaces may share the folder (VIRTEX_UNPACKED_DIR).

What was unpacked is held against the published counts: the last check on an archive, and on our facts.

Where the files of a published dataset are not as its reader takes them, they are arranged.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.core import machine, paths
from components.core.datasets import DATASETS, Archive
from components.core.errors import InputError
from components.core.files import locked, write_text
from components.sources.download.archives_on_disk import read_record, require_room
from components.sources.download.extract import extract
from components.sources.layout import file_name, read_annotations, read_text, unique_ids
from components.sources.progress import Progress
from components.sources.readers.coco import annotation_path, images_dir

DEVKIT = "ILSVRC2012_devkit_t12"
_NUM_CLASSES = 1000


def unpack_dataset(dataset: str) -> Path:
    """Return the folder of a dataset's files, unpacked now if they are not there.

    Raises:
        InputError: its archives are missing, damaged or refused, or the disk is too full.
    """
    archives_dir = paths.ARCHIVES_DIR / dataset
    return _unpacked(dataset, f"{dataset}-{read_record(archives_dir).key}", archives_dir)


def require_unpacked(name: str) -> Path:
    """Return the folder of this ``<dataset>-<key>``, as a manifest names it, unpacked now if it is not there.

    Raises:
        InputError: as :func:`unpack_dataset`, or the archives here are others by now.
    """
    target = machine.unpacked_dir() / name
    if target.is_dir():
        return target
    dataset = name.rpartition("-")[0]
    archives_dir = paths.ARCHIVES_DIR / dataset
    found = f"{dataset}-{read_record(archives_dir).key}"
    if found != name:
        raise InputError(
            f"{archives_dir}: these archives are not those that the datasets stage saw; run "
            f"`dvc repro datasets`, or `dvc checkout download@{dataset}`"
        )
    return _unpacked(dataset, name, archives_dir)


def _unpacked(dataset: str, name: str, archives_dir: Path) -> Path:
    target = machine.unpacked_dir() / name
    if target.is_dir():
        return target
    with locked(target.with_name(f".{target.name}.lock")):
        if not target.is_dir():  # another process may have made it meanwhile
            _unpack(dataset, archives_dir, target)
    return target


def _unpack(dataset: str, archives_dir: Path, target: Path) -> None:
    published = DATASETS[dataset]
    absent = [archive.name for archive in published.archives if not (archives_dir / archive.name).is_file()]
    if absent:
        raise InputError(
            f"{archives_dir}: {', '.join(absent)} not here; run `dvc repro download@{dataset}`, or "
            f"`dvc pull download@{dataset}` from a remote"
        )
    partial = target.parent / f".{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    needed = sum(unpacked_estimate(archives_dir / archive.name, archive) for archive in published.archives)
    require_room([(target.parent, needed, f"{dataset}, unpacked")])
    try:
        with Progress(f"unpacking {dataset}", None) as progress:
            for archive in published.archives:
                extract(
                    archives_dir / archive.name,
                    partial / archive.into,
                    archive.unpacked_bytes,
                    archive.inner,
                    progress.advance,
                )
        if dataset in ARRANGE:
            ARRANGE[dataset](partial)
        os.sync()  # one call instead of one for each of 100,000 files
        os.replace(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def unpacked_estimate(path: Path, archive: Archive) -> int:
    """Return bytes to expect, no more than are allowed: photographs hardly shrink in an archive, texts do."""
    factor = 6 if archive.into == "annotations" or "annotations" in archive.name else 1.1
    size = path.stat().st_size if path.is_file() else archive.size or archive.unpacked_bytes
    return min(round(size * factor), archive.unpacked_bytes)


def require_counts(dataset: str, figures: Mapping[str, Any]) -> None:
    """Compare a dataset's figures with its published counts.

    Args:
        dataset: one of ``DATASETS``.
        figures: counts by split, as the readers give them; objects may be counted by class.

    Raises:
        InputError: they differ; names all differences.
    """
    faults = []
    for split, expected in DATASETS[dataset].counts.items():
        for what, number in expected.items():
            found = figures.get(split, {}).get(what, 0)
            found = sum(found.values()) if isinstance(found, Mapping) else found
            if found != number:
                faults.append(f"{split} has {found:,} {what}, expected {number:,}")
    if faults:
        raise InputError(
            f"download@{dataset}: {'; '.join(faults)}. The archives are not what was published: remove "
            f"datasets/archives/{dataset} and run `dvc repro -f download@{dataset}`"
        )


def sort_validation_images(root: Path) -> None:
    """Move ``val/ILSVRC2012_val_*.JPEG`` into ``val/<wnid>/``; the development kit goes when it is done.

    Args:
        root: folder with ``val/`` and the unpacked development kit.

    Raises:
        InputError: the kit's files are missing or do not fit the images.
    """
    data = root / DEVKIT / "data"
    wnids = _wnids(data / "meta.mat")
    truth_path = data / "ILSVRC2012_validation_ground_truth.txt"
    truth = read_text(truth_path, "one class number per line").split()
    images = sorted(entry for entry in os.listdir(root / "val") if (root / "val" / entry).is_file())
    if len(images) != len(truth):
        raise InputError(f"{truth_path}: {len(truth)} class numbers for {len(images)} validation images")
    for image, number in zip(images, truth, strict=True):
        if number not in wnids:
            raise InputError(f"{truth_path}: the class number {number!r} is not in {data / 'meta.mat'}")
        folder = root / "val" / wnids[number]
        folder.mkdir(exist_ok=True)
        os.replace(root / "val" / image, folder / image)
    shutil.rmtree(root / DEVKIT)


def _wnids(path: Path) -> dict[str, str]:
    """Return WordNet ids of leaf classes by their number in the ground truth (not the sorted order)."""
    from scipy.io import loadmat  # here, so that what never unpacks ImageNet never pays for the import
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise InputError(f"{path}: missing from the development kit")
    try:
        synsets: Any = loadmat(path, squeeze_me=True, struct_as_record=False)["synsets"]
        numbered = {str(int(entry.ILSVRC2012_ID)): str(entry.WNID) for entry in synsets}
    except (KeyError, AttributeError, TypeError, ValueError, MatReadError) as error:
        raise InputError(f"{path}: not the table of classes ({error})") from None
    return {number: wnid for number, wnid in numbered.items() if int(number) <= _NUM_CLASSES}


HELD_OUT = 10  # of COCO's val2017, in the order of ids every tenth image: 500 of 5,000


def divide_val2017(root: Path) -> None:
    """Make COCO's layout of val2017 alone: nine tenths of its images to train on, one tenth to validate.

    COCO's own training images, 19 GB, are not needed then. Of the annotations captions and instances remain.

    Args:
        root: folder with ``annotations/`` and ``val2017/`` as published.

    Raises:
        InputError: an annotation file is missing or broken, or an image that it lists.
    """
    captions_path = annotation_path(root, "captions", "val")
    images = unique_ids(captions_path, read_annotations(captions_path, ("images",))["images"], "images")
    training = {key for index, key in enumerate(sorted(images)) if index % HELD_OUT != HELD_OUT - 1}
    aside = root / "divided"
    for kind in ("captions", "instances"):
        path = annotation_path(root, kind, "val")
        parsed = read_annotations(path, ("images", "annotations"))
        for split, in_training in (("train", True), ("val", False)):
            of_split = {
                "images": [image for image in parsed["images"] if (image["id"] in training) == in_training],
                "annotations": [
                    one for one in parsed["annotations"] if (one["image_id"] in training) == in_training
                ],
            }
            write_text(annotation_path(aside, kind, split), json.dumps(parsed | of_split))
    shutil.rmtree(root / "annotations")
    os.replace(aside / "annotations", root / "annotations")
    aside.rmdir()
    images_dir(root, "train").mkdir()
    for key in training:
        name = file_name(captions_path, images[key])
        try:
            os.replace(images_dir(root, "val") / name, images_dir(root, "train") / name)
        except FileNotFoundError:
            raise InputError(
                f"{images_dir(root, 'val')}: lacks {name}, which {captions_path.name} lists"
            ) from None


ARRANGE: dict[str, Callable[[Path], None]] = {
    "imagenet": sort_validation_images,
    "coco_val2017": divide_val2017,
}
