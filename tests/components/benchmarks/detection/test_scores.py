"""Scores of detections whose quality is known."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from components.benchmarks.detection.data import DetectionSplit, read_lvis
from components.benchmarks.detection.detections import Detections, as_coco_results
from components.benchmarks.detection.scores import FIGURES, coco_scores, lvis_scores, voc_scores
from components.sources.readers.objects import encode_mask

SIDE = 64  # pixels


def perfect(split: DetectionSplit) -> list[Detections]:
    found = []
    for image in split.images:
        count = len(image.objects)
        found.append(
            Detections(
                image.image_id,
                np.array([item.box for item in image.objects], np.float32).reshape(-1, 4),
                np.full(count, 0.9, np.float32),
                np.array([item.label for item in image.objects], np.int64),
                [encode_mask(item.segmentation, image.width, image.height) for item in image.objects],
            )
        )
    return found


def with_label(found: list[Detections], label: int) -> list[Detections]:
    return [replace(image, labels=np.full_like(image.labels, label)) for image in found]


def test_perfect_detections_score_100(squares: DetectionSplit) -> None:
    scores = coco_scores(squares, perfect(squares))
    assert scores["box"]["AP"] == pytest.approx(100)
    assert scores["mask"]["AP"] == pytest.approx(100)
    assert scores["box"]["classes"] == {"red": pytest.approx(100), "blue": pytest.approx(100)}
    assert scores["box"]["APl"] is None  # no object is that large
    assert voc_scores(squares, perfect(squares))["box"]["AP"] == pytest.approx(100)


def test_one_class_missed_halves_the_mean(squares: DetectionSplit) -> None:
    found = with_label(perfect(squares), 0)
    classes = coco_scores(squares, found)["box"]["classes"]
    assert classes["blue"] == 0
    assert 0 < classes["red"] < 100
    assert voc_scores(squares, found)["box"]["classes"]["blue"] == 0


def test_nothing_found_scores_0(squares: DetectionSplit) -> None:
    nothing = [
        Detections(
            image.image_id, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), []
        )
        for image in squares.images
    ]
    assert coco_scores(squares, nothing)["box"]["AP"] == 0
    assert voc_scores(squares, nothing)["box"]["AP"] == 0


def test_only_the_images_looked_at_count(squares: DetectionSplit) -> None:
    assert coco_scores(squares, perfect(squares)[:2])["mask"]["AP"] == pytest.approx(100)
    assert voc_scores(squares, perfect(squares)[:2])["box"]["AP50"] == pytest.approx(100)


def shifted(found: list[Detections], pixels: float) -> list[Detections]:
    return [replace(image, boxes=image.boxes + np.float32(pixels)) for image in found]


def test_a_shift_costs_the_strict_overlaps_only(squares: DetectionSplit) -> None:
    scores = voc_scores(squares, shifted(perfect(squares), 3.0))["box"]  # overlap (21/24)^2 of 2 - that: 0.62
    assert scores["AP50"] == pytest.approx(100)
    assert scores["AP75"] == 0
    assert scores["AP"] == pytest.approx(30)


def test_a_second_detection_of_an_object_is_false(squares: DetectionSplit) -> None:
    twice = [
        replace(
            image,
            boxes=np.repeat(image.boxes, 2, axis=0),
            scores=np.array([0.9, 0.8], np.float32),
            labels=np.repeat(image.labels, 2),
            masks=None,
        )
        for image in perfect(squares)
    ]
    assert voc_scores(squares, twice)["box"]["AP50"] == pytest.approx(100)  # all are found before the doubles
    weak_first = [
        replace(image, scores=image.scores * (1 + index / 100)) for index, image in enumerate(twice)
    ]
    weak_first[0] = replace(weak_first[0], scores=np.array([0.2, 0.1], np.float32))
    assert voc_scores(squares, weak_first)["box"]["AP50"] < 100


def test_difficult_objects_count_as_nothing(squares: DetectionSplit) -> None:
    difficult = [
        replace(image, objects=tuple(replace(item, is_difficult=True) for item in image.objects))
        if image.image_id == 0
        else image
        for image in squares.images
    ]
    split = replace(squares, images=tuple(difficult))
    found = perfect(squares)
    assert voc_scores(split, found)["box"]["AP"] == pytest.approx(100)
    assert voc_scores(split, found[1:])["box"]["AP"] == pytest.approx(100)


def as_lvis(split: DetectionSplit, **image_keys: Any) -> DetectionSplit:
    assert split.annotations is not None
    keys = {"neg_category_ids": [], "not_exhaustive_category_ids": []} | image_keys
    annotations = {
        **split.annotations,
        "images": [{**image, **keys} for image in split.annotations["images"]],
        "categories": [
            {**category, "frequency": letter}
            for category, letter in zip(split.annotations["categories"], "rf", strict=False)
        ],
    }
    return replace(split, annotations=annotations)


def extra(split: DetectionSplit, label: int) -> list[Detections]:
    """Perfect detections, each with a strong false one of another class."""
    found = []
    for image in perfect(split):
        assert image.masks is not None
        found.append(
            replace(
                image,
                boxes=np.concatenate([image.boxes, [[0, 0, 8, 8]]]).astype(np.float32),
                scores=np.array([0.9, 0.99], np.float32),
                labels=np.array([image.labels[0], label], np.int64),
                masks=[*image.masks, encode_mask([[0, 0, 8, 0, 8, 8, 0, 8]], SIDE, SIDE)],
            )
        )
    return found


def test_lvis_scores_an_image_on_known_categories_only(squares: DetectionSplit) -> None:
    found = extra(squares, 1)  # `blue` in images where nobody looked for it, and false where it is
    unknown = lvis_scores(as_lvis(squares), found)["box"]
    assert unknown["APr"] == pytest.approx(100)
    assert unknown["APf"] < 100  # in the blue images themselves the extra one is false
    absent = lvis_scores(as_lvis(squares, neg_category_ids=[7]), found)["box"]
    assert absent["APf"] < unknown["APf"]


def test_lvis_forgives_unmatched_detections_of_incomplete_categories(squares: DetectionSplit) -> None:
    split = as_lvis(squares, neg_category_ids=[7], not_exhaustive_category_ids=[7])
    scores = lvis_scores(split, extra(squares, 1))["mask"]
    assert scores["AP"] == pytest.approx(100)
    assert scores["APc"] is None


def rectangle(left: int, top: int, right: int, bottom: int) -> dict[str, Any]:
    """A mask in an image of 200 pixels."""
    return encode_mask([[left, top, right, top, right, bottom, left, bottom]], 200, 200)


@pytest.fixture
def small_masks_in_larger_boxes() -> tuple[DetectionSplit, list[Detections]]:
    """Two objects, small (20 by 20 pixels) and medium (60 by 60), both found exactly, and a false detection.

    That one is the strongest; its mask is small and its box medium. COCO calls areas below 32^2 small and
    those up to 96^2 medium.
    """
    truth = [(10, 10, 30, 30), (100, 100, 160, 160)]
    annotations = [
        {"id": number, "image_id": 1, "category_id": 3, "bbox": [a, b, c - a, d - b], "iscrowd": 0,
         "area": (c - a) * (d - b), "segmentation": [[a, b, c, b, c, d, a, d]]}
        for number, (a, b, c, d) in enumerate(truth)
    ]  # fmt: skip
    parsed = {
        "images": [{"id": 1, "width": 200, "height": 200}],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "red"}],
    }
    boxes = np.array([*truth, (40, 40, 100, 100)], np.float32)
    masks = [*(rectangle(*box) for box in truth), rectangle(40, 40, 50, 50)]
    scores = np.array([0.5, 0.6, 0.9], np.float32)
    found = [Detections(1, boxes, scores, np.zeros(3, np.int64), masks)]
    return DetectionSplit((), ("red",), (3,), parsed), found


@pytest.mark.parametrize("scores", [coco_scores, lvis_scores])
def test_the_size_of_a_mask_is_its_own_area(scores: Any, small_masks_in_larger_boxes: Any) -> None:
    split, found = small_masks_in_larger_boxes
    figures = scores(as_lvis(split), found)
    # The false one comes before the true one of its size: precision 1/2 at every recall.
    assert [figures["mask"][name] for name in ("APs", "APm")] == [pytest.approx(50), pytest.approx(100)]
    assert [figures["box"][name] for name in ("APs", "APm")] == [pytest.approx(100), pytest.approx(50)]


def test_mask_figures_are_those_of_pycocotools_without_boxes(small_masks_in_larger_boxes: Any) -> None:
    split, found = small_masks_in_larger_boxes
    truth = COCO()
    truth.dataset = copy.deepcopy(split.annotations)
    for annotation in truth.dataset["annotations"]:
        annotation["id"] += 1  # COCOeval takes 0 for "not matched"
    truth.createIndex()
    results = as_coco_results(found[0], split.category_ids)
    for record in results:
        del record["bbox"]
    run = COCOeval(truth, truth.loadRes(results), "segm")
    run.evaluate()
    run.accumulate()
    run.summarize()
    figures = coco_scores(split, found)["mask"]
    expected = [None if value < 0 else pytest.approx(100 * value) for value in run.stats[:6]]
    assert [figures[name] for name in FIGURES] == expected


def test_an_object_may_have_the_id_0(squares: DetectionSplit) -> None:
    assert squares.annotations is not None
    for base in (0, "object "):
        annotations = [
            {**item, "id": base + type(base)(number)}
            for number, item in enumerate(squares.annotations["annotations"])
        ]
        split = replace(squares, annotations={**squares.annotations, "annotations": annotations})
        assert coco_scores(split, perfect(squares))["mask"]["AP"] == pytest.approx(100)


def test_an_empty_mask_counts_in_coco_and_not_in_lvis(small_masks_in_larger_boxes: Any) -> None:
    """As in pycocotools and lvis-api."""
    split, (image,) = small_masks_in_larger_boxes
    assert image.masks is not None
    found = [replace(image, masks=[*image.masks[:2], rectangle(0, 0, 0, 0)])]
    assert lvis_scores(as_lvis(split), found)["mask"]["AP"] == pytest.approx(100)
    assert coco_scores(split, found)["mask"]["AP"] == pytest.approx(200 / 3)


def test_two_categories_of_one_name_have_figures_each(squares: DetectionSplit, tmp_path: Path) -> None:
    lvis = as_lvis(squares).annotations
    assert lvis is not None
    images = [
        {**image, "coco_url": f"http://images/val2017/{image['file_name']}"} for image in lvis["images"]
    ]
    categories = [{**category, "name": "square"} for category in lvis["categories"]]
    (tmp_path / "annotations").mkdir()
    text = json.dumps({**lvis, "images": images, "categories": categories})
    (tmp_path / "annotations/lvis_v1_val.json").write_text(text)
    (tmp_path / "val2017").symlink_to(squares.images[0].path.parent)
    split = read_lvis(tmp_path, "val", tmp_path)
    assert split.classes == ("square (id 3)", "square (id 7)")
    scores = lvis_scores(split, with_label(perfect(split), 0))["box"]
    assert scores["classes"]["square (id 3)"] > scores["classes"]["square (id 7)"] == 0
    assert (scores["APr"], scores["APf"]) == tuple(scores["classes"].values())
