"""Computed rates beside the figures that they are made from."""

from pathlib import Path

import pytest

from components.params import section_of
from components.params.expected_time import (
    CEILING,
    HARDWARE,
    ImageCost,
    as_lines,
    ceiling_share,
    expected_times,
    image_cost,
)
from components.params.presets import PRESETS_DIR, preset_sections
from components.params.sections import Augmentation, Backbone, Objective, Section, TextualHead, Tokenize

CPU, CPU_BF16, PAPERS, _, USUAL, _ = HARDWARE


REPOSITORY = Path(__file__).resolve().parents[3]


def sections(name: str) -> dict[str, Section]:
    return preset_sections(name, REPOSITORY / "params.yaml", REPOSITORY / PRESETS_DIR)


def cost(name: str) -> ImageCost:
    given = sections(name)
    backbone, objective = section_of(given, Backbone).name, section_of(given, Objective).name
    words, crop_size = section_of(given, Tokenize).vocab_size, section_of(given, Augmentation).crop_size
    made = image_cost(backbone, crop_size, objective, section_of(given, TextualHead), words)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def costs() -> dict[int, ImageCost]:
    return {size: cost(f"coco/bicaptioning_R_50_L1_H{size}") for size in (1024, 2048)}


def test_the_work_of_a_head(costs) -> None:
    assert costs[1024].head_gflop == pytest.approx(7.8, rel=0.03)
    assert costs[2048].head_gflop == pytest.approx(25.8, rel=0.03)


@pytest.mark.parametrize(
    ("hardware", "size", "images_per_second"),
    [
        (CPU, 1024, 4.69), (CPU_BF16, 1024, 8.89),  # measured
        (PAPERS, 2048, 8 * 118), (USUAL, 1024, 2650), (USUAL, 2048, 2360),
        (CEILING, 1024, 6100), (CEILING, 2048, 4800),
    ],
)  # fmt: skip
def test_rates_are_those_that_are_stated(costs, hardware, size: int, images_per_second: float) -> None:
    assert hardware.rate(costs[size]) == pytest.approx(images_per_second, rel=0.02)


def test_time_and_price_of_the_papers_best_model() -> None:
    times = expected_times(sections("coco/bicaptioning_R_50_L1_H2048"))
    by_name = {expected.hardware.name: expected for expected in times}
    assert 35 < by_name["8 RTX 2080 Ti"].hours < 40
    ceiling = by_name["1 H200, practical ceiling"]
    assert ceiling.hours == pytest.approx(500_000 * 256 / 4800 / 3600, rel=0.02)
    assert ceiling.dollars == pytest.approx(3.5 * ceiling.hours)
    lines = as_lines(times)
    assert len(lines) == len(HARDWARE)
    assert all("estimated" in line or "computed" in line for line in lines)


def test_a_linear_head_costs_nearly_nothing_and_a_larger_backbone_more(costs) -> None:
    linear, wide = cost("coco/token_classification_R_50"), cost("coco/bicaptioning_R_50W2X_L1_H1024")
    assert CEILING.rate(linear) == pytest.approx(CEILING.images)
    assert CEILING.rate(wide) < CEILING.rate(costs[1024]) / 2


def test_of_tiny_images_nothing_is_said() -> None:
    assert expected_times(sections("demo")) == []


def test_the_share_of_the_ceiling_is_that_of_all_gpus(costs) -> None:
    assert ceiling_share(costs[1024], 3040.0, ["NVIDIA H200"]) == pytest.approx(0.5, rel=0.01)
    assert ceiling_share(costs[1024], 3040.0, ["NVIDIA H100 80GB HBM3"] * 2) == pytest.approx(0.25, rel=0.01)
    assert ceiling_share(costs[1024], 3040.0, ["NVIDIA A100-SXM4-80GB"]) is None
    assert ceiling_share(costs[1024], 3040.0, []) is None
