import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import precision_recall_curve

from components.benchmarks.voc07.results import ClassResult, Measured, draw_aps, thinned_curve, write_files


def result(name: str, ap: float, converged: bool = True) -> ClassResult:
    return ClassResult(
        name=name,
        ap=ap,
        cost=0.1,
        validation_aps=(0.2, 0.4),
        num_positives=7,
        num_test_positives=5,
        num_test_images=20,
        recall=np.array([0.5, 1.0]),
        precision=np.array([1.0, 2 / 3]),
        scores=np.array([0.1, -0.7], np.float32),
        converged=converged,
    )


RESULTS = [result("cat", 0.5), result("dining, table", 0.25, converged=False)]
MEASURED = Measured(RESULTS, 12.34, 5.67)


def test_summary_is_in_percent() -> None:
    assert MEASURED.figures() == {
        "mAP": pytest.approx(37.5),
        "ap": {"cat": 50.0, "dining, table": 25.0},
        "costs": {"cat": 0.1, "dining, table": 0.1},
        "num_classes": 2,
        "num_unsettled_svms": 1,
        "features_seconds": 12.3,
        "svm_seconds": 5.7,
    }


def test_tables(tmp_path: Path) -> None:
    files = write_files(tmp_path, MEASURED, "VOC07")
    assert sorted(files) == sorted(tmp_path.iterdir())
    with open(tmp_path / "ap.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["cat", "dining, table"]
    assert rows[1] | {"class": ""} == {
        "class": "",
        "ap": "25.0000",
        "cost": "0.1",
        "positives": "7",
        "test_positives": "5",
        "test_images": "20",
    }
    lines = (tmp_path / "precision_recall.csv").read_text(encoding="utf-8").splitlines()
    assert lines[:3] == ["class,recall,precision", "cat,0.500000,1.000000", "cat,1.000000,0.666667"]
    assert len(lines) == 5


def test_picture_is_taller_with_more_classes_and_has_bars(tmp_path: Path) -> None:
    draw_aps(tmp_path / "two.png", RESULTS, "VOC07")
    draw_aps(tmp_path / "twenty.png", [result(f"class {i}", i / 20) for i in range(20)], "VOC07")
    with Image.open(tmp_path / "two.png") as two, Image.open(tmp_path / "twenty.png") as twenty:
        assert twenty.height > two.height + 500
        colours = {colour for _, colour in twenty.convert("RGB").getcolors(100000)}
    assert (31, 119, 180) in colours


def test_curve_keeps_points_of_the_full_curve_from_first_to_last() -> None:
    rng = np.random.default_rng(1)
    labels = np.where(rng.random(3000) < 0.2, 1, -1)
    labels[:50] = 0
    scores = rng.normal(size=3000) + labels
    recall, precision = thinned_curve(labels[50:] > 0, scores[50:])
    full_precision, full_recall, _ = precision_recall_curve(labels[50:] > 0, scores[50:])
    full = set(zip(full_recall.tolist(), full_precision.tolist(), strict=True))
    assert set(zip(recall.tolist(), precision.tolist(), strict=True)) <= full
    assert 95 <= len(recall) <= 101
    assert (np.diff(recall) > 0).all()
    assert recall[-1] == 1.0
    assert np.interp(0.5, recall, precision) == pytest.approx(
        np.interp(0.5, full_recall[::-1], full_precision[::-1]), abs=0.02
    )


def test_curve_of_two_positives_by_hand() -> None:
    recall, precision = thinned_curve(np.array([True, False, True, False]), np.array([4.0, 3.0, 2.0, 1.0]))
    assert recall.tolist() == [0.5, 1.0]
    assert precision.tolist() == pytest.approx([1.0, 2 / 3])
