"""Average precision of detections: COCO's by pycocotools, LVIS's federated form of it, and VOC's.

VOC's is at ten overlaps, as detectron2's benchmark reports it for VOC2007.
"""

import contextlib
import io
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from components.benchmarks.detection.data import DetectionSplit
from components.benchmarks.detection.detections import Detections, as_coco_results
from components.benchmarks.detection.matches import FALSE, IGNORED, TRUE, Matches
from components.benchmarks.shared.intervals import Array

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")  # the first six of COCOeval's statistics
LVIS_DETECTIONS = 300  # per image, over all categories (arXiv 1908.03195)
FREQUENCY_NAMES = {"r": "rare", "c": "common", "f": "frequent"}
KINDS = {"box": "bbox", "mask": "segm"}
COCO_RECALLS = np.linspace(0.0, 1.0, 101)  # COCOeval's
VOC_RECALLS = np.linspace(0.0, 1.0, 11)  # VOC2007's eleven points
VOC_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


def coco_scores(split: DetectionSplit, found: Sequence[Detections]) -> dict[str, Any]:
    """Return percent by ``box`` and ``mask``: AP, AP50, AP75, APs, APm, APl and ``classes``, AP by name.

    Beside them stand the ``matches`` that AP, AP50 and AP75 come from. Only the images in ``found`` count.
    Figures without a true object are None.
    """
    return _scores(split, found, COCOeval)


def lvis_scores(split: DetectionSplit, found: Sequence[Detections]) -> dict[str, Any]:
    """Score as `coco_scores`, by LVIS's rules, with APr, APc and APf of rare, common, frequent categories."""
    scores = _scores(split, found, FederatedEval)
    groups = frequency_groups(split)
    for group in scores.values():
        by_class = list(group["classes"].values())
        group.update((name, _mean([by_class[label] for label in labels])) for name, labels in groups.items())
    return scores


def frequency_groups(split: DetectionSplit) -> dict[str, list[int]]:
    """Return the labels of LVIS's rare, common and frequent categories, by the name of their AP: APr, ..."""
    assert split.annotations is not None
    frequency = {category["id"]: category["frequency"] for category in split.annotations["categories"]}
    letters = [frequency[category] for category in split.category_ids]
    return {
        f"AP{letter}": [label for label, own in enumerate(letters) if own == letter]
        for letter in FREQUENCY_NAMES
    }


class FederatedEval(COCOeval):
    """COCOeval under LVIS's rules (arXiv 1908.03195, section 2).

    An image is scored on the categories that are known to be there or known to be absent from it. In
    the images where a category is not annotated exhaustively, its unmatched detections count as
    nothing. There are no crowds. At most 300 detections per image, over all categories. As in lvis-api, what
    has no area is not there: masks of detectors are empty at times.
    """

    def _prepare(self) -> None:
        super()._prepare()
        for held in (self._gts, self._dts):
            for key, things in held.items():
                held[key] = [thing for thing in things if thing["area"] > 0]
        self._incomplete: set[tuple[Any, Any]] = set()
        checked: dict[Any, set[Any]] = defaultdict(set)
        for image in self.cocoGt.loadImgs(self.params.imgIds):
            checked[image["id"]] |= set(image["neg_category_ids"])
            self._incomplete |= {(image["id"], key) for key in image["not_exhaustive_category_ids"]}
        for image_id, category_id in list(self._gts):
            if self._gts[image_id, category_id]:
                checked[image_id].add(category_id)
        for image_id, category_id in list(self._dts):
            if category_id not in checked[image_id]:
                del self._dts[image_id, category_id]

    def _has_any(self, pair: tuple[Any, Any]) -> bool:
        """Tell whether a pair has objects, as few of LVIS's 24 million have; COCOeval tables all."""
        return pair in self._gts or pair in self._dts

    def computeIoU(self, imgId: Any, catId: Any) -> Any:
        return super().computeIoU(imgId, catId) if self._has_any((imgId, catId)) else ()

    def evaluateImg(self, imgId: Any, catId: Any, aRng: Any, maxDet: int) -> Any:
        if not self._has_any((imgId, catId)):
            return None
        result = super().evaluateImg(imgId, catId, aRng, maxDet)
        if result is not None and (imgId, catId) in self._incomplete:
            result["dtIgnore"] = np.logical_or(result["dtIgnore"], result["dtMatches"] == 0)
        return result


def _scores(split: DetectionSplit, found: Sequence[Detections], evaluation: Any) -> dict[str, Any]:
    assert split.annotations is not None
    federated = evaluation is FederatedEval
    records = [
        record
        for image in found
        for record in as_coco_results(_strongest(image, federated), split.category_ids)
    ]
    has_masks = any(image.masks is not None for image in found)
    image_ids = [image.image_id for image in found]
    scores: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = _index(split.annotations)
        for kind, iou_type in KINDS.items():
            if kind == "box" or has_masks:
                scores[kind] = _evaluate(evaluation, truth, records, image_ids, iou_type, split)
    return scores


def _strongest(image: Detections, federated: bool) -> Detections:
    """Return the detections that LVIS counts; COCO's own limit is per category and left to COCOeval."""
    if not federated or len(image.scores) <= LVIS_DETECTIONS:
        return image
    kept = np.argsort(-image.scores, kind="stable")[:LVIS_DETECTIONS]
    masks = None if image.masks is None else [image.masks[index] for index in kept]
    return Detections(image.image_id, image.boxes[kept], image.scores[kept], image.labels[kept], masks)


def _index(annotations: dict[str, Any]) -> COCO:
    truth = COCO()
    # COCOeval takes the id 0 for "not matched" and keeps ids as numbers, so they are given anew.
    objects = [{"iscrowd": 0, **a, "id": number} for number, a in enumerate(annotations["annotations"], 1)]
    truth.dataset = {**annotations, "annotations": objects}
    truth.createIndex()
    return truth


def _evaluate(
    evaluation: Any,
    truth: COCO,
    records: list[dict[str, Any]],
    image_ids: list[Any],
    iou_type: str,
    split: DetectionSplit,
) -> dict[str, Any]:
    detected = COCO()
    detected.dataset = {
        "images": truth.dataset["images"],
        "categories": truth.dataset["categories"],
        "annotations": [],
    }
    detected.createIndex()
    if records:
        # The size of a mask is its own: beside a box, loadRes would take the box's area. It writes into what
        # it is given.
        other = "segmentation" if iou_type == "bbox" else "bbox"
        given = [{key: value for key, value in record.items() if key != other} for record in records]
        detected = truth.loadRes(given)
    run = evaluation(truth, detected, iou_type)
    run.params.imgIds = sorted(image_ids)
    if evaluation is FederatedEval:
        run.params.maxDets = [1, 10, LVIS_DETECTIONS]
    run.evaluate()
    run.accumulate()
    precision = run.eval["precision"]  # (thresholds, recalls, categories, areas, detection limits)
    by_area = [_mean_precision(precision[:, :, :, area, -1]) for area in range(4)]
    thresholds = run.params.iouThrs.round(2).tolist()
    figures = (
        by_area[0],
        _mean_precision(precision[thresholds.index(0.5), :, :, 0, -1]),
        _mean_precision(precision[thresholds.index(0.75), :, :, 0, -1]),
        *by_area[1:],
    )
    order = {category: column for column, category in enumerate(run.params.catIds)}
    classes = {
        name: _mean_precision(precision[:, :, order[category], 0, -1])
        for name, category in zip(split.classes, split.category_ids, strict=True)
    }
    matches = _matches(run, image_ids, split)
    return {**dict(zip(FIGURES, figures, strict=True)), "classes": classes, "matches": matches}


def _matches(run: Any, image_ids: Sequence[Any], split: DetectionSplit) -> Matches:
    """Return what COCOeval found at objects of all sizes, which it goes through first of its size ranges."""
    position = {image_id: index for index, image_id in enumerate(image_ids)}
    label = {category: index for index, category in enumerate(split.category_ids)}
    settings, num_images = run.params, len(run.params.imgIds)
    parts = [Matches.none(len(settings.iouThrs))]
    for number, category in enumerate(settings.catIds):
        first = number * len(settings.areaRng) * num_images
        for result in filter(None, run.evalImgs[first : first + num_images]):
            outcomes = np.where(result["dtMatches"] > 0, TRUE, FALSE).astype(np.int8)
            outcomes[np.asarray(result["dtIgnore"], dtype=bool)] = IGNORED
            counted = int(np.count_nonzero(np.asarray(result["gtIgnore"]) == 0))
            place, scores = position[result["image_id"]], np.array(result["dtScores"], dtype=np.float64)
            parts.append(Matches.of_image(place, label[category], scores, outcomes, counted))
    return Matches.joined(parts)


def _mean_precision(values: NDArray[np.float64]) -> float | None:
    """Return percent; COCOeval marks what has no true object with -1."""
    known = values[values > -1]
    return 100.0 * float(known.mean()) if known.size else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


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
    means = 100.0 * with_objects.mean(axis=0) if len(with_objects) else np.full(len(VOC_THRESHOLDS), np.nan)
    at = {threshold: _figure(value) for threshold, value in zip(VOC_THRESHOLDS, means, strict=True)}
    classes = {name: _figure(100.0 * row[0]) for name, row in zip(split.classes, table, strict=True)}
    figures = {"AP": _figure(means.mean()), "AP50": at[0.5], "AP75": at[0.75]}
    return {"box": {**figures, "classes": classes, "matches": Matches.joined(matches)}}


def _figure(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _class_matches(split: DetectionSplit, found: Sequence[Detections], label: int) -> Matches:
    truth = {
        image.image_id: [item for item in image.objects if item.label == label] for image in split.images
    }
    parts = [Matches.none(len(VOC_THRESHOLDS))]
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
        return np.full(len(VOC_THRESHOLDS), np.nan)
    table = matches.outcomes[:, np.argsort(-matches.scores, kind="stable")]
    return np.array([_eleven_point_ap(row, num_objects) for row in table])


def _match(boxes: Array, objects: Sequence[Any]) -> NDArray[np.int8]:
    """Return TRUE, FALSE or IGNORED per threshold and box, strongest first."""
    outcome = np.full((len(VOC_THRESHOLDS), len(boxes)), FALSE, np.int8)
    if not objects or not len(boxes):
        return outcome
    overlaps = _overlaps(boxes, np.array([item.box for item in objects], dtype=np.float64))
    best = overlaps.argmax(axis=1)
    for row, threshold in enumerate(VOC_THRESHOLDS):
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
    return float(np.mean([precision[recall >= point].max(initial=0.0) for point in VOC_RECALLS]))
