"""Average precision of detections on resamples of the test images."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from components.benchmarks.detection import scores as rules
from components.benchmarks.detection.data import DetectionSplit
from components.benchmarks.detection.detections import Detections
from components.benchmarks.detection.matches import FALSE, IGNORED, TRUE, Matches, by_image
from components.benchmarks.shared.intervals import resamples_of
from components.sources.readers.objects import encode_mask

Score = Callable[[DetectionSplit, list[Detections]], dict[str, Any]]
RULES: list[tuple[Score, Any]] = [
    (rules.coco_scores, rules.COCO_RECALLS),
    (rules.voc_scores, rules.VOC_RECALLS),
]


def blurred(split: DetectionSplit, rng: np.random.Generator) -> list[Detections]:
    """Per image three boxes of any class around its object, off by a few pixels."""
    found = []
    for image in split.images:
        boxes = np.array([image.objects[0].box] * 3) + rng.normal(scale=3.0, size=(3, 4))
        boxes = np.sort(boxes.clip(0, 64).reshape(3, 2, 2), axis=1).reshape(3, 4).astype(np.float32)
        left, top, right, bottom = boxes.T
        outlines = np.stack([left, top, right, top, right, bottom, left, bottom], axis=1).tolist()
        masks = [encode_mask([outline], image.width, image.height) for outline in outlines]
        scores = rng.random(3).astype(np.float32)
        found.append(Detections(image.image_id, boxes, scores, rng.integers(2, size=3), masks))
    return found


def repeated(
    split: DetectionSplit, found: list[Detections], counts: Any
) -> tuple[DetectionSplit, list[Detections]]:
    """The images as often as ``counts`` says, under ids of their own."""
    drawn = np.repeat(np.arange(len(found)), counts.astype(int))
    images, annotations, copies = [], [], []
    assert split.annotations is not None
    for number, old in enumerate(drawn.tolist()):
        images.append(replace(split.images[old], image_id=number))
        annotations.append({**split.annotations["annotations"][old], "id": number + 1, "image_id": number})
        copies.append(replace(found[old], image_id=number))
    records = [{**split.annotations["images"][0], "id": number} for number in range(len(drawn))]
    parsed = {**split.annotations, "images": records, "annotations": annotations}
    return DetectionSplit(tuple(images), split.classes, split.category_ids, parsed), copies


@pytest.mark.parametrize(("score", "recalls"), RULES)
def test_ap_under_counts_is_that_of_images_repeated(
    squares: DetectionSplit, score: Score, recalls: Any
) -> None:
    found = blurred(squares, np.random.default_rng(0))
    scores = score(squares, found)
    results = by_image(scores, [image.image_id for image in squares.images], recalls, groups={})
    names = [f"{kind}.{name}" for kind in scores for name in ("AP", "AP50", "AP75")]
    assert list(results.figures) == names
    assert list(results.draws) == names
    counts = np.concatenate(list(resamples_of(8)), axis=1)
    for index in (0, 1, 999):
        again = score(*repeated(squares, found, counts[:, index]))
        for kind, group in again.items():
            drawn = [results.draws[f"{kind}.{name}"][index] for name in ("AP", "AP50", "AP75")]
            assert drawn == pytest.approx([group["AP"], group["AP50"], group["AP75"]], rel=1e-5), kind


def test_precision_worked_out_by_hand() -> None:
    """One class, three images with an object each; found in the first and third, a false one between."""
    matches = Matches.joined(
        [
            Matches.of_image(0, 0, np.array([0.9]), np.array([[TRUE]], np.int8), 1),
            Matches.of_image(1, 0, np.array([0.8, 0.7]), np.array([[FALSE, IGNORED]], np.int8), 1),
            Matches.of_image(2, 0, np.array([0.6]), np.array([[TRUE]], np.int8), 1),
        ]
    )
    statistic = matches.statistic({"AP": ([0], [0])}, np.linspace(0.0, 1.0, 11))
    counts = np.array([[1, 0, 0], [1, 1, 3], [1, 2, 0]], np.float32)  # images by resamples
    # recalls up to 1/3 have precision 1, up to 2/3 2/3, four and three of eleven points;
    # recalls up to 2/3 have precision 2/3, seven of eleven points; nothing true is found
    assert statistic(counts)["AP"] == pytest.approx(
        [100 * (4 * 1 + 3 * 2 / 3) / 11, 100 * (7 * 2 / 3) / 11, 0]
    )


def test_classes_without_objects_are_left_out_and_unknown_figures_absent(squares: DetectionSplit) -> None:
    found = blurred(squares, np.random.default_rng(0))
    scores = rules.coco_scores(squares, found[:1])  # of class red alone
    results = by_image(scores, [0], rules.COCO_RECALLS, groups={})
    assert results.draws["box.AP"] == pytest.approx(np.full(1000, scores["box"]["AP"]))
    nothing = Matches.none(10)
    none = {"box": {"AP": None, "AP50": None, "AP75": None, "classes": {"red": None}, "matches": nothing}}
    empty = by_image(none, [0], rules.COCO_RECALLS, groups={})
    assert empty.intervals() == {}
    assert set(empty.results) == {
        f"box/{name}" for name in ("images", "labels", "scores", "outcomes", "object_images", "object_labels")
    }


def test_lvis_categories_have_figures_by_frequency(squares: DetectionSplit) -> None:
    assert squares.annotations is not None
    categories = [
        {**category, "frequency": letter}
        for category, letter in zip(squares.annotations["categories"], "rf", strict=True)
    ]
    extra = {"neg_category_ids": [3, 7], "not_exhaustive_category_ids": []}
    images = [{**image, **extra} for image in squares.annotations["images"]]
    parsed = {**squares.annotations, "categories": categories, "images": images}
    split = replace(squares, annotations=parsed)
    groups = rules.frequency_groups(split)
    assert groups == {"APr": [0], "APc": [], "APf": [1]}
    scores = rules.lvis_scores(split, blurred(squares, np.random.default_rng(0)))
    results = by_image(scores, range(8), rules.COCO_RECALLS, groups)
    assert "mask.APc" not in results.figures
    assert results.figures["mask.APr"] == scores["mask"]["classes"]["red"]
    assert np.nanstd(results.draws["mask.APf"]) > 0
