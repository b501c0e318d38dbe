"""VOC's average precision at ten overlaps, as detectron2's benchmark reports it for VOC2007."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.benchmarks.detection.data import DetectionSplit
from components.benchmarks.detection.detections import Detections

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
RECALLS = np.linspace(0.0, 1.0, 11)  # VOC2007's eleven points

Array = NDArray[np.float64]


def voc_scores(split: DetectionSplit, found: Sequence[Detections]) -> dict[str, Any]:
    """Return percent by ``box``: AP (mean over overlaps 0.5 to 0.95), AP50, AP75, ``classes`` (AP50 each).

    VOC2007's rules: eleven recalls; boxes hold their end pixels; a detection belongs to the true box it
    overlaps most; the strongest one counts, further ones are false; on a difficult object it counts as
    nothing. Only the images in ``found`` count.
    """
    table = np.array([_class_aps(split, found, label) for label in range(len(split.classes))])
    with_objects = table[~np.isnan(table).any(axis=1)]  # (classes, thresholds)
    means = 100.0 * with_objects.mean(axis=0) if len(with_objects) else np.full(len(THRESHOLDS), np.nan)
    at = {threshold: _figure(value) for threshold, value in zip(THRESHOLDS, means, strict=True)}
    classes = {name: _figure(100.0 * row[0]) for name, row in zip(split.classes, table, strict=True)}
    return {"box": {"AP": _figure(means.mean()), "AP50": at[0.5], "AP75": at[0.75], "classes": classes}}


def _figure(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _class_aps(split: DetectionSplit, found: Sequence[Detections], label: int) -> Array:
    """Return the AP, 0 to 1, at each threshold; NaN where no object counts."""
    truth = {
        image.image_id: [item for item in image.objects if item.label == label] for image in split.images
    }
    num_objects = sum(not item.is_difficult for image in found for item in truth[image.image_id])
    if not num_objects:
        return np.full(len(THRESHOLDS), np.nan)
    scores: list[Array] = [np.zeros(0)]
    outcomes: list[NDArray[np.int8]] = [np.zeros((len(THRESHOLDS), 0), np.int8)]
    for image in found:
        chosen = np.flatnonzero(image.labels == label)
        chosen = chosen[np.argsort(-image.scores[chosen], kind="stable")]
        scores.append(image.scores[chosen].astype(np.float64))
        outcomes.append(_match(image.boxes[chosen].astype(np.float64), truth[image.image_id]))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    table = np.concatenate(outcomes, axis=1)[:, order]
    return np.array([_eleven_point_ap(row, num_objects) for row in table])


def _match(boxes: Array, objects: Sequence[Any]) -> NDArray[np.int8]:
    """Return 1 true, -1 false, 0 nothing, per threshold and box, strongest first."""
    outcome = np.full((len(THRESHOLDS), len(boxes)), -1, np.int8)
    if not objects or not len(boxes):
        return outcome
    overlaps = _overlaps(boxes, np.array([item.box for item in objects], dtype=np.float64))
    best = overlaps.argmax(axis=1)
    for row, threshold in enumerate(THRESHOLDS):
        taken: set[int] = set()
        for column in np.flatnonzero(overlaps.max(axis=1) > threshold):
            nearest = int(best[column])
            if objects[nearest].is_difficult:
                outcome[row, column] = 0
            elif nearest not in taken:
                outcome[row, column] = 1
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
    true, false = np.cumsum(outcome == 1), np.cumsum(outcome == -1)
    recall = true / num_objects
    precision = true / np.maximum(true + false, 1)
    return float(np.mean([precision[recall >= point].max(initial=0.0) for point in RECALLS]))
