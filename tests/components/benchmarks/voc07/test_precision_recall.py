import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from components.benchmarks.voc07.precision_recall import average_precision, thinned_curve


def test_difficult_images_are_left_out_as_counted_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    with_difficult = np.array([0, 1, -1, 1], dtype=np.int8)
    assert average_precision(with_difficult, scores) == pytest.approx((1 / 1 + 2 / 3) / 2)
    as_negative = np.array([-1, 1, -1, 1], dtype=np.int8)
    assert average_precision(as_negative, scores) == pytest.approx((1 / 2 + 2 / 4) / 2)


def test_equals_sklearn_on_the_kept_rows() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(-1, 2, 200).astype(np.int8), rng.normal(size=200)
    kept = labels != 0
    assert average_precision(labels, scores) == average_precision_score(labels[kept] == 1, scores[kept])


def test_curve_keeps_points_of_the_full_curve_from_first_to_last() -> None:
    rng = np.random.default_rng(1)
    labels = np.where(rng.random(3000) < 0.2, 1, -1)
    labels[:50] = 0
    scores = rng.normal(size=3000) + labels
    recall, precision = thinned_curve(labels, scores)
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
    recall, precision = thinned_curve(np.array([1, -1, 1, -1]), np.array([4.0, 3.0, 2.0, 1.0]))
    assert recall.tolist() == [0.5, 1.0]
    assert precision.tolist() == pytest.approx([1.0, 2 / 3])
