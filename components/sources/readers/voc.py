"""The PASCAL VOC layout: ``VOC2007/{Annotations,ImageSets/Main,JPEGImages}``, and the same for 2012."""

import math
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.core.errors import InputError
from components.sources.layout import read_text, require_file, require_folder, require_images, require_utf8
from components.sources.readers.objects import CLIPPED, OUTSIDE, SWAPPED, Notes, clipped
from components.sources.readers.types import DatasetFolders, Verified

SPLITS = ("trainval", "test")
LABELS = {"1": 1, "-1": -1, "0": 0}


@dataclass(frozen=True, slots=True)
class VocSplit:
    """One split for classification.

    Attributes:
        image_paths: in the order of the split's list.
        classes: sorted names.
        labels: int8 ``(num_images, num_classes)``: 1 positive, -1 negative, 0 only difficult objects.
    """

    image_paths: list[Path]
    classes: tuple[str, ...]
    labels: NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class VocObject:
    """One object; ``box`` is (xmin, ymin, xmax, ymax) in pixels, counted from 1, ends included."""

    name: str
    box: tuple[float, float, float, float]
    difficult: bool
    truncated: bool


@dataclass(frozen=True, slots=True)
class VocAnnotation:
    """One image's XML annotation; sizes in pixels."""

    file_name: str
    width: int
    height: int
    objects: tuple[VocObject, ...]


def image_sets_dir(root: Path, year: int = 2007) -> Path:
    """Return the folder of the lists of images, below the folder that contains ``VOC2007/``."""
    return root / f"VOC{year}" / "ImageSets" / "Main"


def annotation_path(root: Path, image_id: str, year: int = 2007) -> Path:
    """Return the path of an image's XML annotation."""
    return root / f"VOC{year}" / "Annotations" / f"{image_id}.xml"


def list_paths(root: Path, split: str) -> list[Path]:
    """Return the split's own list, then its class lists by class name."""
    folder = image_sets_dir(root)
    return [folder / f"{split}.txt", *sorted(folder.glob(f"[!.]*_{split}.txt"))]  # no ._dog_trainval.txt


def read_voc07(root: Path, split: str) -> VocSplit:
    """Read a split's images and class labels; the classes are those that have a list.

    Args:
        root: folder that contains ``VOC2007/``, usually named ``VOCdevkit``.
        split: ``trainval`` or ``test``.

    Raises:
        InputError: a folder or list is missing, lists disagree on the images, a label is not 1, -1
            or 0, or listed images are absent.
    """
    _require_root(root)
    require_folder(image_sets_dir(root), "one list of images per class and split")
    split_list, *class_lists = list_paths(root, split)
    if not class_lists:
        raise InputError(f"{image_sets_dir(root)}: no class lists; expected files such as dog_{split}.txt")
    ids = read_image_ids(split_list)
    columns = [_read_labels(path, ids) for path in class_lists]
    folder = require_folder(root / "VOC2007" / "JPEGImages", f"the images that {split_list} lists")
    require_images(folder, (f"{image_id}.jpg" for image_id in ids), split_list)
    return VocSplit(
        image_paths=[folder / f"{image_id}.jpg" for image_id in ids],
        classes=tuple(require_utf8(path).name.removesuffix(f"_{split}.txt") for path in class_lists),
        labels=np.array(columns, dtype=np.int8).T,
    )


def verify_voc2007(root: Path, _: DatasetFolders) -> Verified:
    """Read both splits, classes and objects.

    Raises:
        InputError: as :func:`read_voc07` and :func:`read_annotations`, or the splits' classes differ.
    """
    splits = {split: read_voc07(root, split) for split in SPLITS}
    if splits["trainval"].classes != splits["test"].classes:
        differing = sorted(set(splits["trainval"].classes) ^ set(splits["test"].classes))
        raise InputError(f"{root}: trainval and test have different classes, such as {differing[0]}")
    figures = {}
    for split, images in splits.items():
        annotations = read_annotations(root, images.image_paths, classes=images.classes)
        objects = Counter(thing.name for annotation in annotations for thing in annotation.objects)
        positive = (images.labels == 1).sum(axis=0).tolist()
        figures[split] = {
            "images": len(images.image_paths),
            "objects": {name: objects[name] for name in images.classes},
            "positive_images": dict(zip(images.classes, positive, strict=True)),
            "difficult_objects": sum(thing.difficult for found in annotations for thing in found.objects),
        }
    lists = [path for split in SPLITS for path in list_paths(root, split)]
    files = {split: _with_annotations(root, images.image_paths, 2007) for split, images in splits.items()}
    return Verified(lists, files, figures)


def verify_voc2012(root: Path, folders: DatasetFolders) -> Verified:
    """Read the images for detection; their classes are those of VOC2007, where the run has it.

    Raises:
        InputError: as :func:`read_annotated_images` and :func:`read_annotations`.
    """
    images = read_annotated_images(root, "trainval", 2012)
    voc2007 = folders.benchmarks.get("voc2007")
    read_annotations(root, images, 2012, read_voc07(voc2007, "trainval").classes if voc2007 else ())
    lists = [image_sets_dir(root, 2012) / "trainval.txt"]
    files = {"trainval": _with_annotations(root, images, 2012)}
    return Verified(lists, files, {"trainval": {"images": len(images)}})


def _with_annotations(root: Path, images: list[Path], year: int) -> list[Path]:
    """Add the files of the boxes, one per image, whose contents count as the image's do."""
    return [*images, *(annotation_path(root, path.stem, year) for path in images)]


def read_annotated_images(root: Path, split: str, year: int) -> list[Path]:
    """Return a split's images in the order of its list, each with an annotation; for detection.

    Args:
        root: folder that contains ``VOC<year>/``, usually named ``VOCdevkit``.
        split: ``trainval``, ``train``, ``val``, and in 2007 ``test``.
        year: 2007 or 2012.

    Raises:
        InputError: a folder or the list is missing, or listed images or annotations are absent.
    """
    _require_root(root, year)
    split_list = image_sets_dir(root, year) / f"{split}.txt"
    ids = read_image_ids(split_list)
    folder = root / f"VOC{year}"
    require_images(folder / "JPEGImages", (f"{image_id}.jpg" for image_id in ids), split_list)
    require_images(folder / "Annotations", (f"{image_id}.xml" for image_id in ids), split_list, "annotations")
    return [folder / "JPEGImages" / f"{image_id}.jpg" for image_id in ids]


def read_image_ids(path: Path) -> list[str]:
    """Return the image ids of a split's list.

    Raises:
        InputError: the list is missing, empty or not text, or an id occurs twice.
    """
    ids = read_text(path, "image ids, one per line").split()
    if not ids:
        raise InputError(f"{path}: lists no images")
    repeated = next((image_id for image_id, count in Counter(ids).items() if count > 1), None)
    if repeated is not None:
        raise InputError(f"{path}: lists the image {repeated} twice")
    return ids


def read_annotations(
    root: Path, images: Iterable[Path], year: int = 2007, classes: Collection[str] = ()
) -> list[VocAnnotation]:
    """Return the objects of each image; what was done to objects is printed in one line.

    Args:
        root: folder that contains ``VOC<year>/``.
        images: their files.
        year: 2007 or 2012.
        classes: that objects may have; any where there is none.

    Raises:
        InputError: as :func:`read_annotation`, or an object is of another class.
    """
    notes = Notes(root / f"VOC{year}" / "Annotations")
    found = []
    for image in images:
        path = annotation_path(root, image.stem, year)
        found.append(read_annotation(path, notes))
        require_classes(path, found[-1], classes)
    notes.tell()
    return found


def require_classes(path: Path, annotation: VocAnnotation, classes: Collection[str]) -> None:
    """Refuse an object of none of the ``classes``, where there are any (InputError)."""
    unknown = sorted({thing.name for thing in annotation.objects} - set(classes))
    if classes and unknown:
        raise InputError(f"{path}: an object of class {unknown[0]!r}; expected one of {', '.join(classes)}")


def read_annotation(path: Path, notes: Notes | None = None) -> VocAnnotation:
    """Read one image's objects.

    Corners that were labelled from right to left or upwards are put right, boxes are clipped to the image,
    and those outside it are left out.

    Args:
        path: the XML file.
        notes: counts what was done to objects.

    Raises:
        InputError: missing file, broken XML, or an element is missing or not a usable number.
    """
    notes = notes or Notes(path)
    require_file(path, "an XML annotation")
    try:
        tree = ElementTree.parse(path).getroot()
        width, height = (int(_text(tree, f"size/{side}")) for side in ("width", "height"))
        if width < 1 or height < 1:
            raise ValueError(f"<size> says {width} x {height} pixels")
        read = [_mended(_object(element), width, height, notes, path) for element in tree.iter("object")]
        return VocAnnotation(
            file_name=_text(tree, "filename"),
            width=width,
            height=height,
            objects=tuple(item for item in read if item is not None),
        )
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path}: broken annotation: {error}") from None


def _object(element: ElementTree.Element) -> VocObject:
    xmin, ymin, xmax, ymax = (
        float(_text(element, f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")
    )
    if not all(map(math.isfinite, (xmin, ymin, xmax, ymax))):
        raise ValueError(f"<bndbox> has corners {xmin}, {ymin}, {xmax}, {ymax}")
    return VocObject(
        name=_text(element, "name"),
        box=(xmin, ymin, xmax, ymax),
        difficult=element.findtext("difficult", "0").strip() == "1",
        truncated=element.findtext("truncated", "0").strip() == "1",
    )


def _mended(thing: VocObject, width: int, height: int, notes: Notes, path: Path) -> VocObject | None:
    """Mend an object; return None for one outside the image."""
    left, right = sorted((thing.box[0], thing.box[2]))
    top, bottom = sorted((thing.box[1], thing.box[3]))
    if (left, top, right, bottom) != thing.box:
        notes.note(SWAPPED, path.name)
    if clipped((left - 1, top - 1, right, bottom), width, height) is None:
        notes.note(OUTSIDE, path.name)
        return None
    box = (max(left, 1.0), max(top, 1.0), min(right, width), min(bottom, height))
    if box != (left, top, right, bottom):
        notes.note(CLIPPED, path.name)
    return replace(thing, box=box)


def _text(element: ElementTree.Element, key: str) -> str:
    text = element.findtext(key, "").strip()
    if not text:
        raise ValueError(f"the element <{key}> is missing or empty")
    return text


def _read_labels(path: Path, ids: list[str]) -> list[int]:
    """Return the labels of one class in the order of ``ids``."""
    labels: dict[str, int] = {}
    for number, line in enumerate(read_text(path, "image ids with labels").splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.split()
        if len(fields) != 2 or fields[1] not in LABELS:
            raise InputError(f"{path}:{number}: expected an image id and 1, -1 or 0, found {line.strip()!r}")
        labels[fields[0]] = LABELS[fields[1]]
    differing = sorted(labels.keys() ^ set(ids))
    if differing:
        raise InputError(f"{path}: lists other images than its split's list, such as {differing[0]}")
    return [labels[image_id] for image_id in ids]


def _require_root(root: Path, year: int = 2007) -> None:
    name = f"VOC{year}"
    require_folder(root, f"the folder that contains {name}/, usually VOCdevkit")
    if (root / name).is_dir():
        return
    for candidate in (root.parent, root / "VOCdevkit"):
        if (candidate / name).is_dir():
            raise InputError(f"{root}: contains no {name}/; did you mean {candidate}?")
    raise InputError(f"{root}: contains no {name}/; give the folder above it, usually VOCdevkit")
