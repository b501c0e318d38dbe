import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.benchmarks.voc07.results import draw_aps, summary, write_ap_table, write_curves
from components.benchmarks.voc07.svm import ClassResult


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
        converged=converged,
    )


RESULTS = [result("cat", 0.5), result("dining, table", 0.25, converged=False)]


def test_summary_is_in_percent() -> None:
    assert summary(RESULTS) == {
        "mAP": pytest.approx(37.5),
        "ap": {"cat": 50.0, "dining, table": 25.0},
        "costs": {"cat": 0.1, "dining, table": 0.1},
        "num_classes": 2,
        "num_unsettled_svms": 1,
    }


def test_tables(tmp_path: Path) -> None:
    write_ap_table(tmp_path / "ap.csv", RESULTS)
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
    write_curves(tmp_path / "precision_recall.csv", RESULTS)
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
