"""Intervals over test images: coverage on simulated data, pairs, and what is kept of each image."""

import numpy as np
import pytest
from numpy.typing import NDArray

from components.benchmarks.shared.intervals import (
    RESAMPLES,
    Interval,
    interval,
    mean_statistic,
    resampled,
    resamples_of,
)
from components.benchmarks.shared.resampled_precision import mean_step_precision
from components.benchmarks.voc07.protocol import average_precision

TRIALS = 200
TOLERANCE = 0.055  # of a coverage of 0.95: three and a half standard errors of 200 trials


def classified(num_images: int, rng: np.random.Generator) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """10 classes, each in 5 % of the images, scored by a normal that is one higher where it is present."""
    present = rng.random((num_images, 10)) < 0.05
    return np.where(present, 1, -1).astype(np.int8), present + rng.normal(size=present.shape)


def map_of(labels: NDArray[np.int8], scores: NDArray[np.float64]) -> float:
    every_image_once = np.ones((len(labels), 1), np.float32)
    return float(mean_step_precision(labels, scores)(every_image_once)["mAP"][0])


def test_each_resample_draws_as_many_images_as_there_are_and_the_same_ones_again() -> None:
    blocks = list(resamples_of(37, 250))
    assert [block.shape for block in blocks] == [(37, 100), (37, 100), (37, 50)]
    counts = np.concatenate(blocks, axis=1)
    assert (counts.sum(axis=0) == 37).all()
    assert np.array_equal(counts, np.concatenate(list(resamples_of(37, 250)), axis=1))
    assert len(np.unique(counts, axis=1).T) == 250


def test_the_interval_of_a_mean_is_the_textbook_one() -> None:
    hits = np.arange(400) < 100  # 25 %, standard error sqrt(0.25 * 0.75 / 400) = 2.165 points
    draws = resampled(400, mean_statistic({"top1": 100.0 * hits}))["top1"]
    assert draws.shape == (RESAMPLES,)
    found = interval(25.0, draws)
    assert found is not None
    assert found.low == pytest.approx(25 - 1.96 * 2.165, abs=0.4)
    assert found.high == pytest.approx(25 + 1.96 * 2.165, abs=0.4)


def test_intervals_of_means_hold_the_truth_in_95_of_100_cases() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(TRIALS):
        hits = rng.random(300) < 0.3
        found = interval(hits.mean(), resampled(300, mean_statistic({"x": hits}), 300)["x"])
        held += found is not None and found.low <= 0.3 <= found.high
    assert held / TRIALS == pytest.approx(0.95, abs=TOLERANCE)


def test_intervals_of_map_hold_its_mean_over_test_sets_in_95_of_100_cases() -> None:
    """Plain percentiles hold it less often: resampling raises AP by a standard deviation here."""
    rng = np.random.default_rng(2)
    sets = [classified(300, rng) for _ in range(3 * TRIALS)]
    figures = [map_of(*one) for one in sets]
    truth = np.mean(figures)
    held, raised, spread = 0, [], []
    for one, figure in zip(sets[:TRIALS], figures, strict=False):
        draws = resampled(300, mean_step_precision(*one), 100)["mAP"]
        found = interval(figure, draws)
        held += found is not None and found.low <= truth <= found.high
        raised.append(draws.mean() - figure)
        spread.append(draws.std())
    assert held / TRIALS == pytest.approx(0.95, abs=TOLERANCE)
    assert np.mean(raised) > 0.6 * np.mean(spread)  # what the shift is for
    assert np.mean(spread) == pytest.approx(np.std(figures), rel=0.1)


def test_intervals_of_differences_are_those_of_pairs() -> None:
    """Two models that err on the same images differ by little, however uncertain each figure is."""
    rng = np.random.default_rng(3)
    held_apart, held_equal = 0, 0
    for _ in range(TRIALS):
        first = rng.random(400) < 0.5
        better = first | (rng.random(400) < 0.06)  # by 3 points
        same = first ^ (rng.random(400) < 0.02)  # by none
        draws = resampled(400, mean_statistic({"a": first, "b": better, "c": same}), 200)
        gain = interval(better.mean() - first.mean(), draws["b"] - draws["a"])
        none = interval(same.mean() - first.mean(), draws["c"] - draws["a"])
        assert gain is not None
        assert none is not None
        assert gain.high - gain.low < 0.05  # of independent samples it would be 0.14
        held_apart += gain.low <= 0.03 <= gain.high
        held_equal += none.holds_zero
    assert held_apart / TRIALS == pytest.approx(0.95, abs=TOLERANCE)
    assert held_equal / TRIALS == pytest.approx(0.95, abs=TOLERANCE)


def test_a_single_image_of_a_few_is_no_difference() -> None:
    """Of a mean nothing is shifted: that would lift a lower end of exactly zero above it."""
    first, second = np.zeros(12), np.arange(12) == 0
    draws = resampled(12, mean_statistic({"a": 100.0 * first, "b": 100.0 * second}))
    found = interval(100 / 12, draws["b"] - draws["a"])
    assert found == Interval(0.0, 25.0)
    assert found.holds_zero


def test_resamples_of_unknown_figures_are_left_out() -> None:
    assert interval(1.0, np.full(10, np.nan)) is None
    assert interval(1.0, np.array([1.0, np.nan, 1.0])) == Interval(1.0, 1.0)


def test_map_under_counts_is_that_of_images_repeated() -> None:
    rng = np.random.default_rng(4)
    labels = rng.choice(np.array([1, -1, 0], np.int8), size=(50, 3), p=[0.3, 0.6, 0.1])
    scores = rng.normal(size=(50, 3)).round(1)  # with ties
    statistic = mean_step_precision(labels, scores)
    for counts in resamples_of(50, 5):
        for column, found in zip(counts.T, statistic(counts)["mAP"], strict=True):
            drawn = np.repeat(np.arange(50), column.astype(int))
            expected = np.mean([average_precision(labels[drawn, i], scores[drawn, i]) for i in range(3)])
            assert found == pytest.approx(100 * expected, rel=1e-5)


def test_map_worked_out_by_hand() -> None:
    labels = np.array([[1], [-1], [1]], np.int8)
    scores = np.array([[3.0], [2.0], [1.0]])
    counts = np.array([[1, 2, 0], [1, 0, 3], [1, 1, 1]], np.float32)  # images by resamples
    # (1 + 2/3) / 2; three true ones, nothing else: 1; three false ones before the only true one: 1/4
    assert mean_step_precision(labels, scores)(counts)["mAP"] == pytest.approx([100 * 5 / 6, 100, 25])


def test_a_class_that_a_resample_lacks_is_left_out_of_its_mean() -> None:
    labels = np.array([[1, -1], [-1, 1]], np.int8)
    statistic = mean_step_precision(labels, np.array([[1.0, 1.0], [0.0, 0.0]]))
    counts = np.array([[2, 1], [0, 1]], np.float32)  # images by resamples
    assert statistic(counts)["mAP"] == pytest.approx([100, (100 + 50) / 2])
