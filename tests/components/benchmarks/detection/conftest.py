"""A few drawn images with objects, as each reader hands them on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from components import params
from components.benchmarks.detection.data import (
    DetectionImage,
    DetectionObject,
    DetectionSplit,
    DetectionTask,
)

SIZE = 64  # pixels
SETTINGS: dict[str, Any] = {
    "engine": "torchvision", "seed": 0, "iterations": 3, "learning_rate": 0.01, "weight_decay": 1e-4,
    "warmup_iterations": 1, "milestones": [], "batch_size": 2, "train_sizes": [64], "test_size": 64,
    "max_size": 64, "anchor_sizes": [8, 16, 24, 32, 48], "rois_per_image": 8, "train_proposals": 100,
    "test_proposals": 8, "detections_per_image": 5, "score_threshold": 0.05, "norm": "batch",
    "freeze_at": 0, "precise_bn_batches": 1, "repeat_threshold": 0.0, "max_test_images": 2,
    "checkpoint_every": 1000, "log_every": 1, "gallery_images": 2, "anchors_per_image": 256,
}  # fmt: skip


def square(left: int, top: int, side: int) -> list[list[float]]:
    right, bottom = left + side, top + side
    return [[float(v) for v in (left, top, right, top, right, bottom, left, bottom)]]


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> DetectionSplit:
    """Eight images of one bright square each, of class ``red`` or ``blue`` by its colour."""
    folder = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    images, records, annotations = [], [], []
    for number in range(8):
        label, side = number % 2, 24
        left, top = (int(v) for v in rng.integers(2, SIZE - side - 2, 2))
        pixels = np.full((SIZE, SIZE, 3), 40, np.uint8)
        pixels[top : top + side, left : left + side] = ((220, 30, 30), (30, 30, 220))[label]
        path = folder / f"{number}.png"
        assert cv2.imwrite(str(path), pixels[..., ::-1])
        polygon = square(left, top, side)
        box = (float(left), float(top), float(left + side), float(top + side))
        images.append(DetectionImage(number, path, SIZE, SIZE, (DetectionObject(label, box, polygon),)))
        records.append({"id": number, "width": SIZE, "height": SIZE, "file_name": path.name})
        annotations.append(
            {
                "id": number + 1,
                "image_id": number,
                "category_id": (3, 7)[label],
                "bbox": [left, top, side, side],
                "area": float(side * side),
                "segmentation": polygon,
                "iscrowd": 0,
            }
        )
    categories = [{"id": 3, "name": "red"}, {"id": 7, "name": "blue"}]
    parsed = {"images": records, "annotations": annotations, "categories": categories}
    return DetectionSplit(tuple(images), ("red", "blue"), (3, 7), parsed)


def make_settings(task: DetectionTask, **changes: Any) -> params.Detection:
    values = {**SETTINGS, **changes}
    if task.with_masks:
        return params.CocoSegmentation.model_validate({"dataset": "coco", "head_channels": 16, **values})
    sets = {"train_sets": ["2007/trainval"], "test_sets": ["2007/test"]}
    return params.VocDetection.model_validate({**sets, "region_cells": 4, **values})


@pytest.fixture
def settings() -> Callable[..., params.Detection]:
    """Makes the section of a task, tiny, with changes."""
    return make_settings


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch" / "key"
