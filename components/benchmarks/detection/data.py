"""What both detection engines are given: a task, a backbone, and images with objects of COCO, LVIS or VOC."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from components import params
from components.core import paths
from components.core.errors import InputError
from components.sources.manifest import CaptionedEntry, DatasetEntry, LvisEntry, read_manifest
from components.sources.readers import coco, lvis, voc

_SPLITS = {"train": "training", "val": "validation"}  # of COCO and LVIS, and what they are for


@dataclass(frozen=True, slots=True)
class DetectionTask:
    """One of the three benchmarks.

    Attributes:
        name: of its stage.
        with_masks: whether objects are segmented too, by Mask R-CNN with FPN, and the benchmark is known by
            the AP of masks; else boxes alone are found, by Faster R-CNN C4.
    """

    name: str
    with_masks: bool


COCO_SEGMENTATION = DetectionTask("coco_segmentation", with_masks=True)
LVIS_SEGMENTATION = DetectionTask("lvis_segmentation", with_masks=True)
VOC_DETECTION = DetectionTask("voc_detection", with_masks=False)


@dataclass(frozen=True, slots=True)
class BackboneWeights:
    """A backbone to start from: torchvision's name of the ResNet, and its weights without ``fc``."""

    architecture: str
    tensors: Mapping[str, Tensor]

    def digest(self) -> str:
        """Return the SHA-256 of names and values, in hexadecimal."""
        digest = hashlib.sha256(json.dumps([self.architecture, sorted(self.tensors)]).encode())
        for name in sorted(self.tensors):
            digest.update(np.ascontiguousarray(self.tensors[name].cpu().numpy()).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class DetectionObject:
    """One object.

    Attributes:
        label: index into the dataset's classes, from 0.
        box: (left, top, right, bottom) in pixels from 0, right and bottom excluded.
        segmentation: polygons or run lengths as COCO has them; None for VOC.
        is_crowd: a region of many objects, left out of training and ignored in scoring.
        is_difficult: VOC's mark; trained on, as detectron2 does, and ignored in scoring.
    """

    label: int
    box: tuple[float, float, float, float]
    segmentation: Any = None
    is_crowd: bool = False
    is_difficult: bool = False


@dataclass(frozen=True, slots=True)
class DetectionImage:
    """One image; ``image_id`` is the dataset's own, sizes are pixels."""

    image_id: int | str
    path: Path
    width: int
    height: int
    objects: tuple[DetectionObject, ...]


@dataclass(frozen=True, slots=True)
class DetectionSplit:
    """One split of a detection dataset.

    Attributes:
        images: in a fixed order.
        classes: names by label.
        category_ids: the dataset's own id of each label.
        annotations: the parsed file for COCO and LVIS, which their scores are computed from; None for VOC.
    """

    images: tuple[DetectionImage, ...]
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    annotations: dict[str, Any] | None = None

    @property
    def has_masks(self) -> bool:
        """Return whether objects come with a segmentation."""
        return any(item.segmentation for image in self.images for item in image.objects)

    def digest(self) -> str:
        """Return the SHA-256 of names, sizes on disk and objects of the images, in hexadecimal."""
        digest = hashlib.sha256()
        for image in self.images:
            digest.update(repr((image.image_id, image.path.stat().st_size, image.objects)).encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class TaskData:
    """The training and test set of a task.

    Attributes:
        train: images to train on.
        test: images to test on.
        used: the datasets that both are of: name, entry in the manifest, what each split is for.
    """

    train: DetectionSplit
    test: DetectionSplit
    used: Sequence[tuple[str, CaptionedEntry | DatasetEntry | LvisEntry, dict[str, str]]]


def _coco_data(settings: params.CocoSegmentation) -> TaskData | str:
    """Return the images and objects of one captioned dataset."""
    dataset = settings.dataset
    manifest = read_manifest(paths.dataset_part("coco_segmentation"))
    if dataset not in manifest.captions:
        return f"this run has no captioned dataset `{dataset}`"
    root = manifest.captioned_root(dataset)
    files = [coco.annotation_path(root, "instances", split) for split in _SPLITS]
    if absent := [path.name for path in files if not path.is_file()]:
        return f"`{dataset}` has no {absent[0]}"
    used = [(dataset, manifest.captions[dataset], _SPLITS)]
    return TaskData(read_coco(root, "train"), read_coco(root, "val"), used)


def _lvis_data(_: params.LvisSegmentation) -> TaskData | str:
    """Return LVIS v1, whose images are COCO's."""
    manifest = read_manifest(paths.dataset_part("lvis_segmentation"))
    if "lvis" not in manifest.benchmarks:
        return "this run has no `lvis` data"
    root, images_root = manifest.root_of("lvis"), manifest.lvis_images_root
    train, val = (read_lvis(root, split, images_root) for split in _SPLITS)
    return TaskData(train, val, [("lvis", manifest.benchmarks["lvis"], _SPLITS)])


def _voc_data(settings: params.VocDetection) -> TaskData | str:
    """Return the sets of VOC that the section names."""
    manifest = read_manifest(paths.dataset_part("voc_detection"))
    roots = manifest.voc_roots
    used = []
    for context, sets in (("training", settings.train_sets), ("test", settings.test_sets)):
        for name in sets:
            year, _, split = name.partition("/")
            if int(year) not in roots:
                return f"this run has no VOC{year}, which the set {name} needs"
            used.append((f"voc{year}", manifest.benchmarks[f"voc{year}"], {split: context}))
    train = read_voc(roots, settings.train_sets)
    return TaskData(train, read_voc(roots, settings.test_sets, train.classes), used)


# By name: the task, and what reads its data in this run or says why there are none.
TASKS: dict[str, tuple[DetectionTask, Callable[[Any], TaskData | str]]] = {
    "coco_segmentation": (COCO_SEGMENTATION, _coco_data),
    "lvis_segmentation": (LVIS_SEGMENTATION, _lvis_data),
    "voc_detection": (VOC_DETECTION, _voc_data),
}


def read_coco(root: Path, split: str) -> DetectionSplit:
    """Read COCO's objects of ``train`` or ``val``; raises InputError for missing or inconsistent files."""
    parsed = coco.read_instances(root, split, is_told=False)  # the datasets stage has printed the notes
    folder = coco.images_dir(root, split)
    return _from_annotations(parsed, {image["id"]: folder / image["file_name"] for image in parsed["images"]})


def read_lvis(root: Path, split: str, images_root: Path) -> DetectionSplit:
    """Read LVIS v1's objects of ``train`` or ``val``, on COCO's images below ``images_root``."""
    path = lvis.annotation_path(root, split)
    parsed = lvis.read_lvis(root, split, images_root, is_told=False)
    return _from_annotations(
        parsed, {image["id"]: images_root / lvis.image_name(path, image) for image in parsed["images"]}
    )


def read_voc(
    roots: Mapping[int, Path], sets: Sequence[str], classes: Sequence[str] | None = None
) -> DetectionSplit:
    """Read VOC's objects of some sets, one after the other.

    Args:
        roots: by year, the folder that contains ``VOC<year>/``.
        sets: such as ``2007/trainval`` and ``2012/trainval``.
        classes: names in the order of the labels; None takes those that the first set has lists of.

    Raises:
        InputError: a set or its year is not there, or an object is of another class.
    """
    named = [(int(year), split) for year, _, split in (name.partition("/") for name in sets)]
    for year, split in named:
        if year not in roots:
            raise InputError(f"this run has no VOC{year}, which the set {year}/{split} needs")
    names = tuple(classes) if classes is not None else _voc_classes(roots[named[0][0]], named[0][1])
    labels = {name: label for label, name in enumerate(names)}
    images = [
        _voc_image(roots[year], year, path, labels)
        for year, split in named
        for path in voc.read_annotated_images(roots[year], split, year)
    ]
    return DetectionSplit(tuple(images), names, tuple(range(1, len(names) + 1)))


def _voc_classes(root: Path, split: str) -> tuple[str, ...]:
    """Return the sorted classes of VOC2007, which its class lists name."""
    _, *class_lists = voc.list_paths(root, split)
    if not class_lists:
        raise InputError(f"{voc.image_sets_dir(root)}: no class lists; expected files like dog_{split}.txt")
    return tuple(path.name.removesuffix(f"_{split}.txt") for path in class_lists)


def _from_annotations(parsed: dict[str, Any], image_paths: dict[Any, Path]) -> DetectionSplit:
    """Keep crowds, marked; drop objects without extent, as both engines' own readers do."""
    categories = sorted(parsed["categories"], key=lambda category: category["id"])
    labels = {category["id"]: label for label, category in enumerate(categories)}
    objects: dict[Any, list[DetectionObject]] = {image["id"]: [] for image in parsed["images"]}
    for annotation in parsed["annotations"]:
        x, y, width, height = annotation["bbox"]
        if width > 0 and height > 0:
            objects[annotation["image_id"]].append(
                DetectionObject(
                    labels[annotation["category_id"]],
                    (x, y, x + width, y + height),
                    annotation.get("segmentation"),
                    bool(annotation["iscrowd"]),
                )
            )
    images = [
        DetectionImage(key, image_paths[key], image["width"], image["height"], tuple(objects[key]))
        for image in sorted(parsed["images"], key=lambda image: image["id"])
        for key in [image["id"]]
    ]
    names = tuple(category["name"] for category in categories)
    return DetectionSplit(tuple(images), names, tuple(category["id"] for category in categories), parsed)


def _voc_image(root: Path, year: int, image_path: Path, labels: Mapping[str, int]) -> DetectionImage:
    path = voc.annotation_path(root, image_path.stem, year)
    annotation = voc.read_annotation(path)
    voc.require_classes(path, annotation, labels)
    objects = [
        DetectionObject(
            labels[item.name],
            (item.box[0] - 1, item.box[1] - 1, item.box[2], item.box[3]),  # VOC counts from 1, ends included
            is_difficult=item.difficult,
        )
        for item in annotation.objects
    ]
    return DetectionImage(image_path.stem, image_path, annotation.width, annotation.height, tuple(objects))
