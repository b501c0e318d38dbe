"""Figures with their intervals, and differences of pairs, from what benchmarks wrote."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.benchmarks.shared.intervals import mean_statistic
from components.benchmarks.shared.per_image import PerImage
from components.core import paths
from components.core.published import BENCHMARKS, Setup
from components.params import Benchmarks
from components.report.results import Result, read_results
from components.report.words import headline

ASKED = Benchmarks(backbones=["virtex", "random"], detection_backbones=[], detection_memory_heavy=True)
SETUP = Setup("drawn world", 1, "all", "resnet18", "bicaptioning", 256, 1, 1, 1, 1)
NAME = next(row for row in BENCHMARKS if row.key == "inaturalist.top1").name


def write(backbone: str, hits: Any, first_image: int = 0, version: int = 1, **settings: int) -> None:
    """What a benchmark of classes leaves of 200 images."""
    folder = paths.stage_dir(NAME, backbone)
    folder.mkdir(parents=True, exist_ok=True)
    images = [f"{first_image + number}.jpg" for number in range(200)]
    values = 100.0 * np.asarray(hits)
    by_image = PerImage.measured(images, {"top1": values.mean()}, mean_statistic({"top1": values}), {})
    by_image.write(folder / "per_image.npz")
    metrics = {
        "top1": values.mean(), "intervals": by_image.intervals(), "chance": {"top1": 4.0},
        "protocol": {"name": "fine-tuning", "version": version, "settings": settings},
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))


def found() -> Result:
    return next(one for one in read_results(SETUP, ASKED) if one.benchmark.key == f"{NAME}.top1")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_gain_has_the_interval_of_pairs() -> None:
    write("random", np.arange(200) < 60)
    write("virtex", np.arange(200) < 80)  # right where the other is, and on 20 images more
    result = found()
    assert result.chance.value == 4
    ours, gain = result.figures["virtex"], result.differences["random"]
    assert (ours.value, gain.value) == (40, 10)
    assert ours.high is not None
    assert ours.high - 40 == pytest.approx(1.96 * 100 * np.sqrt(0.4 * 0.6 / 200), rel=0.1)
    assert gain.low is not None
    assert 10 - gain.low == pytest.approx(1.96 * 100 * np.sqrt(0.1 * 0.9 / 200), rel=0.15)
    assert gain.mark == ""
    assert not gain.is_noise


def test_a_difference_that_may_be_none_is_marked_as_noise() -> None:
    write("random", np.arange(200) % 10 < 3)
    write("virtex", np.arange(200)[::-1] % 10 < 3)
    assert found().differences["random"].mark == "≈"
    assert found().differences["random"].is_noise
    assert found().differences["random"].remark == "no difference: within noise"


def test_other_test_images_give_no_interval_of_the_difference() -> None:
    write("random", np.arange(200) < 60, first_image=1)
    write("virtex", np.arange(200) < 80)
    gain = found().differences["random"]
    assert (gain.value, gain.low) == (10, None)
    assert "not the same test images" in gain.remark
    (paths.stage_dir(NAME, "random") / "per_image.npz").write_bytes(b"cut")
    assert found().differences["random"].low is None


@pytest.mark.parametrize("other", [{"version": 2}, {"epochs": 9}])
def test_another_protocol_is_marked_and_not_compared(other: dict[str, int]) -> None:
    write("random", np.arange(200) < 60, **{"epochs": 8, **other})
    write("virtex", np.arange(200) < 80, epochs=8)
    assert found().figures["random"].mark == "†"
    assert found().differences["random"].value is None


def test_seeds_and_what_is_logged_make_no_other_protocol() -> None:
    write("random", np.arange(200) < 60, epochs=8, seed=0, log_every=1)
    write("virtex", np.arange(200) < 80, epochs=8, seed=1, log_every=2)
    assert found().figures["random"].mark == ""
    assert found().differences["random"].value == 10


def test_results_without_intervals_are_shown_as_before() -> None:
    for backbone, value in (("virtex", 30.0), ("random", 20.0)):
        folder = paths.stage_dir(NAME, backbone)
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps({"top1": value, "intervals": None}))
    assert found().differences["random"].value == 10
    assert found().figures["virtex"].low is None
    assert found().chance.value is None


def test_the_headline_does_not_praise_noise() -> None:
    folders = [paths.stage_dir("voc07", name) for name in ("virtex", "random")]
    for folder, hits in zip(folders, (np.arange(200) % 10 < 3, np.arange(200) % 10 > 6), strict=True):
        folder.mkdir(parents=True)
        values = 100.0 * hits
        images = [str(number) for number in range(200)]
        by_image = PerImage.measured(images, {"mAP": values.mean()}, mean_statistic({"mAP": values}), {})
        by_image.write(folder / "per_image.npz")
        metrics = {"mAP": values.mean(), "intervals": by_image.intervals()}
        (folder / "metrics.json").write_text(json.dumps(metrics))
    said = headline(read_results(SETUP, ASKED), "bicaptioning")
    assert "differs by no more than noise from the random one on VOC07: 30.0 against 30.0 mAP" in said
    assert "(+0.0, 95 % interval -" in said
