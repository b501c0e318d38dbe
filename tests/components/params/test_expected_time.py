"""Computed rates beside the figures that they are made from."""

from pathlib import Path

import pytest

from components.params.expected_time import (
    CEILING,
    HARDWARE,
    as_lines,
    ceiling_share,
    expected_rate,
    expected_times,
    head_gflop,
)
from components.params.presets import PRESETS_DIR, preset_sections
from components.params.sections import Section

CPU, CPU_BF16, PAPERS, _, USUAL, _ = HARDWARE


REPOSITORY = Path(__file__).resolve().parents[3]


def sections(name: str) -> dict[str, Section]:
    return preset_sections(name, REPOSITORY / "params.yaml", REPOSITORY / PRESETS_DIR)


@pytest.fixture(scope="module")
def sizes() -> dict[int, dict[str, Section]]:
    return {size: sections(f"coco/bicaptioning_R_50_L1_H{size}") for size in (1024, 2048)}


def test_the_work_of_a_head(sizes) -> None:
    assert head_gflop(sizes[1024], 1.0) == pytest.approx(7.8, rel=0.03)
    assert head_gflop(sizes[2048], 1.0) == pytest.approx(25.8, rel=0.03)


@pytest.mark.parametrize(
    ("hardware", "size", "images_per_second"),
    [
        (CPU, 1024, 4.69), (CPU_BF16, 1024, 8.89),  # measured
        (PAPERS, 2048, 8 * 118), (USUAL, 1024, 2650), (USUAL, 2048, 2360),
        (CEILING, 1024, 6100), (CEILING, 2048, 4800),
    ],
)  # fmt: skip
def test_rates_are_those_that_are_stated(sizes, hardware, size: int, images_per_second: float) -> None:
    assert expected_rate(sizes[size], hardware) == pytest.approx(images_per_second, rel=0.02)


def test_time_and_price_of_the_papers_best_model(sizes) -> None:
    by_name = {expected.hardware.name: expected for expected in expected_times(sizes[2048])}
    assert 35 < by_name["8 RTX 2080 Ti"].hours < 40
    ceiling = by_name["1 H200, practical ceiling"]
    assert ceiling.hours == pytest.approx(500_000 * 256 / 4800 / 3600, rel=0.02)
    assert ceiling.dollars == pytest.approx(3.5 * ceiling.hours)
    lines = as_lines(expected_times(sizes[2048]))
    assert len(lines) == len(HARDWARE)
    assert all("estimated" in line or "computed" in line for line in lines)


def test_a_linear_head_costs_nearly_nothing_and_a_larger_backbone_more(sizes) -> None:
    linear = sections("coco/token_classification_R_50")
    wide = sections("coco/bicaptioning_R_50W2X_L1_H1024")
    usual = expected_rate(sizes[1024], CEILING)
    assert expected_rate(linear, CEILING) == pytest.approx(CEILING.images)
    assert expected_rate(wide, CEILING) < usual / 2


def test_of_tiny_images_nothing_is_said() -> None:
    assert expected_times(sections("demo")) == []


def test_the_share_of_the_ceiling_is_that_of_all_gpus(sizes) -> None:
    assert ceiling_share(sizes[1024], 3040.0, ["NVIDIA H200"]) == pytest.approx(0.5, rel=0.01)
    assert ceiling_share(sizes[1024], 3040.0, ["NVIDIA H100 80GB HBM3"] * 2) == pytest.approx(0.25, rel=0.01)
    assert ceiling_share(sizes[1024], 3040.0, ["NVIDIA A100-SXM4-80GB"]) is None
    assert ceiling_share(sizes[1024], 3040.0, []) is None
