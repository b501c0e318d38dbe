import csv
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from PIL import Image

from components.benchmarks.classification.results import (
    MAX_CONFUSED,
    OTHER,
    PICTURE,
    TABLES,
    Head,
    Outcome,
    accuracy,
    confused_classes,
    curve_rows,
    write_outcome,
    write_predictions,
)
from components.benchmarks.shared.files import record_nothing
from components.sources.readers.types import ClassifiedImages
from components.tracking import StageRun
from components.training.checkpoints import CheckpointFolder
from components.training.state import History, TrainingState

HEADS = (Head("_lr0.3", 0.3), Head("_lr3", 3.0))


def history(*names: str) -> History:
    figures = ("loss", "top1", "top5")
    rows = [
        {"iteration": iteration, "loss": 9.0}
        | {figure + name: iteration + place for name in names for place, figure in enumerate(figures)}
        for iteration in (5, 10)
    ]
    return History(rows, rows)


def read(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def outcome(num_classes: int, groups: dict[str, float] | None = None) -> Outcome:
    labels = np.repeat(np.arange(num_classes), 2)
    paths = [Path(f"val/{index}.jpg") for index in range(len(labels))]
    val = ClassifiedImages(paths, tuple(f"class {index}" for index in range(num_classes)), labels)
    predicted = np.where(np.arange(len(labels)) % 4 == 1, 0, labels)
    state = cast(TrainingState, SimpleNamespace(history=history("_lr0.3", "_lr3"), iteration=10))
    checkpoints = CheckpointFolder(Path("checkpoints"), "key", 1)
    ranked = {"": np.stack([predicted, labels], axis=1)}
    figures = accuracy(labels, ranked[""])
    return Outcome("a title", figures, state, checkpoints, HEADS, 2, labels, val, predicted, ranked, groups)


def test_figures_have_bounds_and_what_guessing_reaches() -> None:
    found = outcome(num_classes=40)
    by_image = found.by_image()
    assert by_image.images[1] == "val/1.jpg"
    assert by_image.figures == {"top1": 100 * 61 / 80, "top5": 100}
    bounds = by_image.intervals()
    error = 100 * np.sqrt(61 / 80 * 19 / 80 / 80)
    assert bounds["top1"]["low"] == pytest.approx(76.25 - 1.96 * error, abs=0.2 * error)
    assert bounds["top5"] == {"low": 100, "high": 100}
    assert found.chance() == {"top1": 2.5, "top5": 12.5}
    assert outcome(num_classes=2).chance() == {"top1": 50, "top5": 100}


def test_accuracy_in_percent() -> None:
    ranked = np.array([[0, 1], [1, 0], [2, 3], [3, 0]])
    assert accuracy(np.array([0, 0, 1, 3]), ranked) == {"top1": 50.0, "top5": 75.0}


def test_curves_have_a_row_a_head_and_moment() -> None:
    rows = curve_rows(history("_lr0.3", "_lr3").val, HEADS, epoch=5)
    assert [(row["epoch"], row["learning_rate"]) for row in rows] == [(1, 0.3), (1, 3.0), (2, 0.3), (2, 3.0)]
    assert rows[0] == {"epoch": 1.0, "learning_rate": 0.3, "loss": 5, "top1": 6, "top5": 7}


def test_a_single_head_has_the_plain_figures() -> None:
    (first, _) = curve_rows(history("").train, [Head("", 0.1)], epoch=10)
    assert first == {"epoch": 0.5, "learning_rate": 0.1, "loss": 5, "top1": 6, "top5": 7}


def test_all_files(tmp_path: Path) -> None:
    write_outcome(tmp_path, outcome(4, {"many": 50.0, "few": 25.0}))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((*TABLES, PICTURE))
    assert read(tmp_path / "classes.csv")[3] == {
        "class": "class 3", "top1": "100.0000", "train_images": "2", "val_images": "2"
    }  # fmt: skip
    predictions = read(tmp_path / "predictions.csv")
    assert len(predictions) == 8
    assert predictions[5] == {"actual": "class 2", "predicted": "class 0"}
    assert read(tmp_path / "val.csv")[1]["learning_rate"] == "3"
    with Image.open(tmp_path / "results.png") as picture:
        assert picture.width > 1500


def test_too_many_classes_for_a_matrix(tmp_path: Path) -> None:
    write_outcome(tmp_path, outcome(MAX_CONFUSED + 9))
    with Image.open(tmp_path / "results.png") as picture:
        assert picture.width < 1200  # without the matrix
    assert len({row["actual"] for row in read(tmp_path / "predictions.csv")}) == MAX_CONFUSED


def test_of_many_classes_those_with_the_most_errors_are_kept(tmp_path: Path) -> None:
    num_classes = MAX_CONFUSED + 2
    labels = np.repeat(np.arange(num_classes), 2)
    predicted = labels.copy()
    predicted[labels == 41] = 0
    predicted[labels == 7] = 40
    shown = confused_classes(num_classes, labels, predicted)
    assert 41 in shown
    assert 40 not in shown
    write_predictions(
        tmp_path / "predictions.csv", [str(index) for index in range(num_classes)], labels, predicted
    )
    rows = read(tmp_path / "predictions.csv")
    assert {row["predicted"] for row in rows if row["actual"] == "7"} == {OTHER}
    assert {row["predicted"] for row in rows if row["actual"] == "41"} == {"0"}


def test_nothing_to_write_has_the_same_files(tmp_path: Path) -> None:
    write_outcome(tmp_path / "full", outcome(3))
    run = StageRun("classification", "imagenet_linear-random", tmp_path / "empty")
    record_nothing(run, "A benchmark", "there is no data", TABLES, PICTURE)
    for name in (*TABLES, PICTURE):
        assert (tmp_path / "empty" / name).is_file()
        if name.endswith(".csv"):
            headers = [(tmp_path / folder / name).read_text().splitlines()[0] for folder in ("full", "empty")]
            assert headers[0] == headers[1]
            assert read(tmp_path / "empty" / name) == []


@pytest.mark.parametrize("groups", [None, {"many": 10.0}])
def test_pictures_of_any_size(tmp_path: Path, groups: dict[str, float] | None) -> None:
    write_outcome(tmp_path, outcome(25, groups))
