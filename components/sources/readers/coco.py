"""The COCO 2017 layout: ``annotations/{kind}_{split}2017.json`` beside ``{split}2017/``.

Any captioned dataset in this layout is read here, such as Flickr8k brought into it. The categories of the
objects that an image shows are its labels, 1 to K without gaps, as multilabel classification needs them (0
is the background): those of the first dataset by ascending id, then those of the next that have new names.
COCO's 80 categories thus get 1 to 80. Categories of one name are one, whatever their ids. Crowd regions
count: they show their category too.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.sources.layout import (
    Tally,
    category_name,
    file_name,
    is_known,
    read_annotations,
    require_folder,
    require_images,
    shown,
    unique_ids,
    without_halves,
)
from components.sources.readers.objects import mend_objects
from components.sources.readers.types import CaptionedImage, Verified

SPLITS = ("train", "val")

Told = Callable[[str, object], None]


def _nobody(reason: str, example: object) -> None:
    pass


def annotation_path(root: Path, kind: str, split: str) -> Path:
    """Return the path of an annotation file; ``kind`` is ``captions`` or ``instances``."""
    return root / "annotations" / f"{kind}_{split}2017.json"


def images_dir(root: Path, split: str) -> Path:
    """Return the folder of a split's images."""
    return root / f"{split}2017"


def read_captions(
    root: Path, split: str, dataset: str, leave_out: Told = _nobody, note: Told = _nobody
) -> list[CaptionedImage]:
    """Return the images with their captions, by ascending image id; captions in the order of the file.

    Blank captions are dropped, then images without captions; half a character is taken out of a caption.

    Args:
        root: the dataset's folder.
        split: ``train`` or ``val``.
        dataset: the name that begins every ``image_id``.
        leave_out: called with the reason and an example of each caption and image that is dropped.
        note: the same of each caption that is changed.

    Raises:
        InputError: a folder or file is missing, the JSON is broken or inconsistent, listed images
            are absent, or no image has a caption.
    """
    path = annotation_path(root, "captions", split)
    require_folder(root, "a dataset in COCO layout (annotations/, train2017/, val2017/)")
    parsed = read_annotations(path, ("images", "annotations"))
    images = unique_ids(path, parsed["images"], "images")
    folder = require_folder(images_dir(root, split), f"the images that {path} lists")
    captions = _captions_by_image(path, parsed["annotations"], images, leave_out, note)
    names = {key: file_name(path, images[key]) for key in images}
    require_images(folder, names.values(), path)
    if not captions:
        raise InputError(f"{path}: no image has a caption; is it a captions file?")
    for key, name in names.items():
        if key not in captions:
            leave_out("images without a caption", folder / name)
    return [
        CaptionedImage(f"{dataset}/{key}", dataset, folder / names[key], tuple(captions[key]))
        for key in sorted(captions)
    ]


def verify_captions(root: Path, dataset: str) -> Verified:
    """Read both splits, with their objects where there are any; one line says what was taken.

    Raises:
        InputError: as :func:`read_captions` and :func:`read_instances`.
    """
    tally = Tally()
    splits = {split: read_captions(root, split, dataset, tally.leave_out, tally.note) for split in SPLITS}
    annotations = [annotation_path(root, "captions", split) for split in SPLITS]
    figures: dict[str, dict[str, Any]] = {
        split: {"images": len(images), "captions": sum(len(image.captions) for image in images)}
        for split, images in splits.items()
    }
    num_images, num_captions = (sum(of[key] for of in figures.values()) for key in ("images", "captions"))
    print(tally.line(dataset, f"{num_images:,} images and {num_captions:,} captions"), flush=True)
    files = {split: {image.path for image in images} for split, images in splits.items()}
    for split in SPLITS:
        path = annotation_path(root, "instances", split)
        if path.exists():
            parsed = read_instances(root, split)
            annotations.append(path)
            figures[split]["objects"] = count_objects(parsed)
            folder = images_dir(root, split)
            files[split] |= {folder / file_name(path, image) for image in parsed["images"]}
    return Verified(annotations, files, figures)


def _captions_by_image(
    path: Path,
    annotations: list[dict[str, Any]],
    images: dict[Any, dict[str, Any]],
    leave_out: Told,
    note: Told,
) -> dict[Any, list[str]]:
    captions: dict[Any, list[str]] = defaultdict(list)
    for annotation in annotations:
        key, caption = annotation.get("image_id"), annotation.get("caption")
        if not isinstance(caption, str):
            raise InputError(f"{path}: an annotation has no `caption` text: {shown(annotation)}")
        if not is_known(key, images):
            raise InputError(f"{path}: a caption names the image id {key!r}, which `images` lacks")
        whole = without_halves(caption)
        if whole != caption:
            note("captions of which half a character is taken away", f"{path}: image {key}")
        if whole.strip():
            captions[key].append(whole)
        else:
            leave_out("blank captions", f"{path}: image {key}")
    return captions


def read_instances(root: Path, split: str, is_told: bool = True) -> dict[str, Any]:
    """Read ``instances_{split}2017.json``, checked and mended, with all its keys.

    Args:
        root: the dataset's folder.
        split: ``train`` or ``val``.
        is_told: whether to print what was done to objects.

    Raises:
        InputError: as :func:`components.sources.readers.objects.mend_objects`, or listed images are absent.
    """
    path = annotation_path(root, "instances", split)
    parsed = read_annotations(path, ("images", "annotations", "categories"))
    notes = mend_objects(path, parsed)
    if is_told:
        notes.tell()
    folder = require_folder(images_dir(root, split), f"the images that {path} lists")
    require_images(folder, (file_name(path, image) for image in parsed["images"]), path)
    return parsed


def count_objects(parsed: dict[str, Any]) -> dict[str, int]:
    """Return the number of objects by category name (or id where it has none), crowd regions included."""
    counts = Counter(annotation["category_id"] for annotation in parsed["annotations"])
    return {category_name(category): counts[category["id"]] for category in parsed["categories"]}


@dataclass(frozen=True, slots=True)
class ObjectLabels:
    """Labels of the images of a split.

    Attributes:
        categories: their names; label k is ``categories[k - 1]``. Empty where nothing is labelled.
        of_image: by ``image_id`` of a CaptionedImage, rising, each once; images without objects lack.
    """

    categories: tuple[str, ...]
    of_image: Mapping[str, tuple[int, ...]]

    def added_to(self, images: Iterable[CaptionedImage]) -> list[CaptionedImage]:
        """Return the same images with their labels."""
        return [replace(image, labels=self.of_image.get(image.image_id, ())) for image in images]


def read_object_labels(roots: Mapping[str, Path], split: str) -> ObjectLabels:
    """Return the labels of the datasets that lie in ``roots``, by name, each with an ``instances`` file.

    Raises:
        InputError: a file is missing or broken, or an object names an unknown category.
    """
    numbers: dict[str, int] = {}
    found: dict[str, set[int]] = defaultdict(set)
    for dataset, root in roots.items():
        path = annotation_path(root, "instances", split)
        parsed = read_annotations(path, ("annotations", "categories"))
        categories = unique_ids(path, parsed["categories"], "categories")
        labels = {
            key: numbers.setdefault(category_name(categories[key]), len(numbers) + 1)
            for key in sorted(categories)
        }
        for annotation in parsed["annotations"]:
            key = annotation.get("category_id")
            if not is_known(key, categories):
                raise InputError(
                    f"{path}: an object of a category that `categories` lacks: {shown(annotation)}"
                )
            found[f"{dataset}/{annotation.get('image_id')}"].add(labels[key])
    return ObjectLabels(tuple(numbers), {image_id: tuple(sorted(of)) for image_id, of in found.items()})
