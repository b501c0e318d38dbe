"""The PASCAL VOC layout: ``VOC2007/{Annotations,ImageSets/Main,JPEGImages}``, and the same for 2012."""

import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.errors import InputError
from components.sources.layout import read_text, require_file, require_folder, require_images

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
    """Folder of the lists of images, below the folder that contains ``VOC2007/``."""
    return root / f"VOC{year}" / "ImageSets" / "Main"


def annotation_path(root: Path, image_id: str, year: int = 2007) -> Path:
    """Path of an image's XML annotation."""
    return root / f"VOC{year}" / "Annotations" / f"{image_id}.xml"


def list_paths(root: Path, split: str) -> list[Path]:
    """The split's own list, then its class lists by class name."""
    folder = image_sets_dir(root)
    return [folder / f"{split}.txt", *sorted(folder.glob(f"*_{split}.txt"))]


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
    require_folder(image_sets_dir(root), "one list of images a class and split")
    split_list, *class_lists = list_paths(root, split)
    if not class_lists:
        raise InputError(f"{image_sets_dir(root)}: no class lists; expected files such as dog_{split}.txt")
    ids = read_image_ids(split_list)
    columns = [_read_labels(path, ids) for path in class_lists]
    folder = require_folder(root / "VOC2007" / "JPEGImages", f"the images that {split_list} lists")
    require_images(folder, (f"{image_id}.jpg" for image_id in ids), split_list)
    return VocSplit(
        image_paths=[folder / f"{image_id}.jpg" for image_id in ids],
        classes=tuple(path.name.removesuffix(f"_{split}.txt") for path in class_lists),
        labels=np.array(columns, dtype=np.int8).T,
    )


def read_annotated_images(root: Path, split: str, year: int) -> list[Path]:
    """A split's images in the order of its list, each with an annotation; for detection.

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
    """Image ids of a split's list.

    Raises:
        InputError: the list is missing, empty or not text, or an id occurs twice.
    """
    ids = read_text(path, "image ids, one a line").split()
    if not ids:
        raise InputError(f"{path}: lists no images")
    repeated = next((image_id for image_id, count in Counter(ids).items() if count > 1), None)
    if repeated is not None:
        raise InputError(f"{path}: lists the image {repeated} twice")
    return ids


def read_annotation(path: Path) -> VocAnnotation:
    """Read one image's objects.

    Raises:
        InputError: missing file, broken XML, or an element is missing or not a number.
    """
    require_file(path, "an XML annotation")
    try:
        tree = ElementTree.parse(path).getroot()
        return VocAnnotation(
            file_name=_text(tree, "filename"),
            width=int(_text(tree, "size/width")),
            height=int(_text(tree, "size/height")),
            objects=tuple(map(_object, tree.iter("object"))),
        )
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path}: broken annotation: {error}") from None


def _object(element: ElementTree.Element) -> VocObject:
    xmin, ymin, xmax, ymax = (
        float(_text(element, f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")
    )
    return VocObject(
        name=_text(element, "name"),
        box=(xmin, ymin, xmax, ymax),
        difficult=element.findtext("difficult", "0").strip() == "1",
        truncated=element.findtext("truncated", "0").strip() == "1",
    )


def _text(element: ElementTree.Element, key: str) -> str:
    text = element.findtext(key, "").strip()
    if not text:
        raise ValueError(f"the element <{key}> is missing or empty")
    return text


def _read_labels(path: Path, ids: list[str]) -> list[int]:
    """Labels of one class in the order of ``ids``."""
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
