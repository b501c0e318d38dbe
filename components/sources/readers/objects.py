"""Annotated objects made fit for detectors: put right where it is plain how, else refused.

Done when they are read, so that no engine meets them after hours of training. What is changed or left
out is counted, and told in one line a file.
"""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pycocotools import mask as run_lengths

from components.core.errors import InputError
from components.core.foreign_text import printable
from components.sources.layout import Tally, category_name, is_known, shown, unique_ids

ROUNDING = 1.0  # pixels by which published boxes leave their image; those stay, as scores refer to them
FARTHEST = 1e5  # pixels; pycocotools reserves memory for every pixel along an outline

OUTSIDE = "outside the image, left out"
CLIPPED = "reaching out of the image, clipped to it"
SWAPPED = "with swapped corners, put right"
WITHOUT_MASK = "without a mask (`segmentation`), left out"
WITHOUT_EXTENT = "without width or height, not trained on"
WITHOUT_AREA = "without `area`, computed"

Box = tuple[float, float, float, float]


class Notes(Tally):
    """What was done to the objects of a file or folder, by kind."""

    def __init__(self, where: Path) -> None:
        super().__init__()
        self._where = where
        self._remarks: list[str] = []

    def say(self, text: str) -> None:
        """Add a remark on all objects."""
        self._remarks.append(text)

    def __str__(self) -> str:
        """Return one line, empty if nothing was done."""
        parts = [*filter(None, [self.noted()]), *self._remarks]
        return f"{self._where}: objects: {'; '.join(parts)}" if parts else ""

    def tell(self) -> None:
        """Print the line, if there is one."""
        if line := str(self):
            print(line, flush=True)


def mend_objects(path: Path, parsed: dict[str, Any]) -> Notes:
    """Check and mend ``parsed["annotations"]`` and the names of ``parsed["categories"]`` in place.

    Boxes are clipped to their image, those outside it go, missing areas are computed from the mask or the
    box. Objects without a mask go where others have one, as in detectron2's reader; where none has one
    all stay, and the notes say that segmentation cannot be measured. Categories of one name, which results
    by class would mix up, get their ids into their names.

    Raises:
        InputError: names the file and the first record whose ids are unknown or double, whose image has no
            size, or whose box, mask or crowd mark cannot be understood.
    """
    images = _sized(path, unique_ids(path, parsed["images"], "images"))
    categories = unique_ids(path, parsed["categories"], "categories")
    unique_ids(path, parsed["annotations"], "annotations")
    notes = Notes(path)
    _tell_apart(list(categories.values()), notes)
    kept = []
    for annotation in parsed["annotations"]:
        if not is_known(annotation.get("image_id"), images):
            raise InputError(f"{path}: an object of an image that `images` lacks: {shown(annotation)}")
        if not is_known(annotation.get("category_id"), categories):
            raise InputError(f"{path}: an object of a category that `categories` lacks: {shown(annotation)}")
        width, height = images[annotation["image_id"]]
        _require_understood(path, annotation, width, height)
        if _mend_box(annotation, width, height, notes):
            kept.append(annotation)
    parsed["annotations"] = _with_masks(kept, notes)
    for annotation in parsed["annotations"]:
        if not (_are_finite([annotation.get("area")]) and annotation["area"] >= 0):
            annotation["area"] = _area(annotation, *images[annotation["image_id"]])
            notes.note(WITHOUT_AREA, f"id {annotation['id']}")
    return notes


def clipped(box: Box, width: float, height: float) -> Box | None:
    """Return the part of a box (left, top, right, bottom) inside an image; None if that has no extent."""
    left, top, right, bottom = box
    left, top, right, bottom = max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height)
    return (left, top, right, bottom) if left < right and top < bottom else None


def has_mask(annotation: dict[str, Any]) -> bool:
    """Return whether there is a segmentation at all: some tools write an empty one, or none."""
    return bool(annotation.get("segmentation"))


def _tell_apart(categories: Sequence[dict[str, Any]], notes: Notes) -> None:
    """Name every category, by its id where it has no name, and no two alike."""
    for category in categories:
        category["name"] = category_name(category)
    while double := [name for name, count in Counter(c["name"] for c in categories).items() if count > 1]:
        alike = [category for category in categories if category["name"] in double]
        for category in alike:
            category["name"] = f"{category['name']} (id {category['id']})"
        names = ", ".join(printable(category["name"]) for category in alike)
        notes.say(f"categories of one name, told apart: {names}")


def _sized(path: Path, images: dict[Any, dict[str, Any]]) -> dict[Any, tuple[int, int]]:
    """Return width and height by id."""
    sizes = {}
    for key, image in images.items():
        size: list[Any] = [image.get("width"), image.get("height")]
        if not all(_are_finite([side]) and side >= 1 and side == int(side) for side in size):
            raise InputError(f"{path}: an image has no `width` and `height` in pixels: {shown(image)}")
        image["width"], image["height"] = sizes[key] = (int(size[0]), int(size[1]))
    return sizes


def _require_understood(path: Path, annotation: dict[str, Any], width: int, height: int) -> None:
    box = annotation.get("bbox")
    if not (isinstance(box, list) and len(box) == 4 and _are_finite(box) and box[2] >= 0 and box[3] >= 0):
        raise InputError(
            f"{path}: `bbox` must be [x, y, width, height], finite and not negative in extent: "
            f"{shown(annotation)}"
        )
    if annotation.get("iscrowd") is None:
        annotation["iscrowd"] = 0
    if annotation["iscrowd"] not in (0, 1):
        raise InputError(f"{path}: `iscrowd` must be 0 or 1: {shown(annotation)}")
    mask: Any = annotation.get("segmentation") or []
    is_runs = isinstance(mask, dict)
    if fault := _run_length_fault(mask, width, height) if is_runs else _polygon_fault(mask):
        raise InputError(
            f"{path}: `segmentation` must be polygons or run lengths, {fault}: {shown(annotation)}"
        )


def _polygon_fault(polygons: Any) -> str | None:
    """Return what is wrong with what should be a list of polygons."""
    if not isinstance(polygons, list) or not all(isinstance(polygon, list) for polygon in polygons):
        return "and is neither"
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            return f"and a polygon has {len(polygon)} numbers instead of two for each of three or more points"
        if not _are_finite(polygon):
            return "and a polygon's numbers are not all finite"
        if max(map(abs, polygon)) > FARTHEST:
            return f"and a polygon reaches more than {FARTHEST:.0f} pixels away"
    return None


def _run_length_fault(mask: dict[str, Any], width: int, height: int) -> str | None:
    if mask.get("size") != [height, width]:
        return (
            f"whose `size` must be its image's [height, width], [{height}, {width}], not {mask.get('size')}"
        )
    counts = mask.get("counts")
    runs = _runs(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(isinstance(run, int) and run >= 0 for run in runs):
        return "and its `counts` are broken"
    if sum(runs) != width * height:
        return f"and its `counts` cover {sum(runs)} pixels of {width * height}"
    return None


def _runs(text: str) -> list[int] | None:
    """Run lengths of COCO's text form; None where it is broken.

    Six bits a character above ASCII 48: five of the number, the lowest first, and whether more follow; from
    the fourth number on, differences to the last but one. pycocotools decodes a text that is cut short to
    whatever memory holds.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs if not shift else None


def _mend_box(annotation: dict[str, Any], width: int, height: int, notes: Notes) -> bool:
    """Clip it; False if the object has to go."""
    name = f"id {annotation['id']}"
    left, top, box_width, box_height = annotation["bbox"]
    right, bottom = left + box_width, top + box_height
    if box_width == 0 or box_height == 0:
        notes.note(WITHOUT_EXTENT, name)
        return True
    inside = clipped((left, top, right, bottom), width, height)
    if inside is None:
        notes.note(OUTSIDE, name)
        return False
    if max(-left, -top, right - width, bottom - height) > ROUNDING:
        annotation["bbox"] = [inside[0], inside[1], inside[2] - inside[0], inside[3] - inside[1]]
        notes.note(CLIPPED, name)
    return True


def _with_masks(annotations: list[dict[str, Any]], notes: Notes) -> list[dict[str, Any]]:
    if not any(has_mask(annotation) and not annotation["iscrowd"] for annotation in annotations):
        if annotations:
            notes.say("none has a mask (`segmentation`), so segmentation cannot be measured on them")
        return annotations
    for annotation in itertools.filterfalse(has_mask, annotations):
        notes.note(WITHOUT_MASK, f"id {annotation['id']}")
    return list(filter(has_mask, annotations))


def _area(annotation: dict[str, Any], width: int, height: int) -> float:
    """Return the pixels of the mask, or of the box where there is none."""
    if not has_mask(annotation):
        return float(annotation["bbox"][2] * annotation["bbox"][3])
    return float(run_lengths.area(encode_mask(annotation["segmentation"], width, height)))


def encode_mask(segmentation: Any, width: int, height: int) -> dict[str, Any]:
    """Return polygons, or run lengths of either kind, as compressed run lengths."""
    if isinstance(segmentation, list):
        return run_lengths.merge(run_lengths.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return run_lengths.frPyObjects(segmentation, height, width)
    return segmentation


def _are_finite(values: Sequence[Any]) -> bool:
    """Tell whether all are numbers, none of them infinite or NaN, which Python's JSON reader lets through."""
    try:
        return all(map(math.isfinite, values))
    except (TypeError, OverflowError):
        return False
