"""VOC's average precision at ten overlaps, as detectron2's benchmark reports it for VOC2007."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.benchmarks.detection.data import DetectionSplit
from components.benchmarks.detection.detections import Detections
from components.benchmarks.detection.matches import FALSE, IGNORED, TRUE, Matches

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
RECALLS = np.linspace(0.0, 1.0, 11)  # VOC2007's eleven points

Array = NDArray[np.float64]


def voc_scores(split: DetectionSplit, found: Sequence[Detections]) -> dict[str, Any]:
    """Return percent by ``box``: AP (mean over overlaps 0.5 to 0.95), AP50, AP75, ``classes`` (AP50 each).

    Beside them stand the ``matches`` that they come from.

    VOC2007's rules: eleven recalls; boxes hold their end pixels; a detection belongs to the true box it
    overlaps most; the strongest one counts, further ones are false; on a difficult object it counts as
    nothing. Only the images in ``found`` count.
    """
    matches = [_class_matches(split, found, label) for label in range(len(split.classes))]
    table = np.array([_class_aps(own) for own in matches])
    with_objects = table[~np.isnan(table).any(axis=1)]  # (classes, thresholds)
    means = 100.0 * with_objects.mean(axis=0) if len(with_objects) else np.full(len(THRESHOLDS), np.nan)
    at = {threshold: _figure(value) for threshold, value in zip(THRESHOLDS, means, strict=True)}
    classes = {name: _figure(100.0 * row[0]) for name, row in zip(split.classes, table, strict=True)}
    figures = {"AP": _figure(means.mean()), "AP50": at[0.5], "AP75": at[0.75]}
    return {"box": {**figures, "classes": classes, "matches": Matches.joined(matches)}}


def _figure(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _class_matches(split: DetectionSplit, found: Sequence[Detections], label: int) -> Matches:
    truth = {
        image.image_id: [item for item in image.objects if item.label == label] for image in split.images
    }
    parts = [Matches.none(len(THRESHOLDS))]
    for place, image in enumerate(found):
        objects = truth[image.image_id]
        chosen = np.flatnonzero(image.labels == label)
        chosen = chosen[np.argsort(-image.scores[chosen], kind="stable")]
        outcomes = _match(image.boxes[chosen].astype(np.float64), objects)
        counted = sum(not item.is_difficult for item in objects)
        parts.append(Matches.of_image(place, label, image.scores[chosen], outcomes, counted))
    return Matches.joined(parts)


def _class_aps(matches: Matches) -> Array:
    """Return the AP of one class, 0 to 1, at each threshold; NaN where no object counts."""
    num_objects = len(matches.object_images)
    if not num_objects:
        return np.full(len(THRESHOLDS), np.nan)
    table = matches.outcomes[:, np.argsort(-matches.scores, kind="stable")]
    return np.array([_eleven_point_ap(row, num_objects) for row in table])


def _match(boxes: Array, objects: Sequence[Any]) -> NDArray[np.int8]:
    """Return TRUE, FALSE or IGNORED per threshold and box, strongest first."""
    outcome = np.full((len(THRESHOLDS), len(boxes)), FALSE, np.int8)
    if not objects or not len(boxes):
        return outcome
    overlaps = _overlaps(boxes, np.array([item.box for item in objects], dtype=np.float64))
    best = overlaps.argmax(axis=1)
    for row, threshold in enumerate(THRESHOLDS):
        taken: set[int] = set()
        for column in np.flatnonzero(overlaps.max(axis=1) > threshold):
            nearest = int(best[column])
            if objects[nearest].is_difficult:
                outcome[row, column] = IGNORED
            elif nearest not in taken:
                outcome[row, column] = TRUE
                taken.add(nearest)
    return outcome


def _overlaps(boxes: Array, others: Array) -> Array:
    """Return the intersection over union ``(boxes, others)`` of boxes whose last pixel is ``right - 1``.

    In VOC's own coordinates, which count from 1 with the ends included, widths are ``xmax - xmin + 1``:
    with ours, left from 0 and right excluded, that is the plain difference.
    """
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    other_areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    return shared / np.maximum(areas[:, None] + other_areas[None, :] - shared, 1e-12)


def _eleven_point_ap(outcome: NDArray[np.int8], num_objects: int) -> float:
    true, false = np.cumsum(outcome == TRUE), np.cumsum(outcome == FALSE)
    recall = true / num_objects
    precision = true / np.maximum(true + false, 1)
    return float(np.mean([precision[recall >= point].max(initial=0.0) for point in RECALLS]))
