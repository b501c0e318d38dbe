"""Texts below the example images of zero-shot classification."""

from pathlib import Path

import numpy as np
from PIL import Image

from components.benchmarks.probes.examples import draw, of_classes
from components.sources.readers.voc import VocSplit


def test_the_likeliest_classes_and_those_shown(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(2)]
    for path in paths:
        Image.new("RGB", (12, 9), "red").save(path)
    labels = np.array([[1, -1, 0, 1], [-1, -1, 0, -1]], np.int8)
    test = VocSplit(paths, ("bird", "cat", "dog", "horse"), labels)
    found = of_classes(test, np.array([[-1.0, -3.0, -2.0, -4.0], [0.1, 0.4, 0.3, 0.2]]))
    assert found.texts == [
        "zero-shot: bird, dog, cat\n(shows bird, horse)",
        "zero-shot: cat, dog, horse\n(shows none of them)",
    ]
    assert [picture.shape for picture in found.pictures] == [(9, 12, 3)] * 2


def test_a_picture_without_examples_says_why(tmp_path: Path) -> None:
    draw(tmp_path / "with.png", [], "there are no data")
    draw(tmp_path / "without.png", [], "")
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()
