"""A few drawn images with objects, as each reader hands them on."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from components.benchmarks.detection.data import DetectionImage, DetectionObject, DetectionSplit

SIZE = 64  # pixels


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


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch" / "key"
