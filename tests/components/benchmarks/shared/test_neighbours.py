"""Votes of nearest neighbours, worked out by hand."""

import numpy as np
import pytest

from components.benchmarks.shared.neighbours import votes

TRAIN = np.array([[2.0, 0.0], [0.6, 0.8], [0.0, 5.0]], np.float32)  # cosines 1, 0.6 and 0 with (1, 0)
SHOWN = np.array([[True, False], [False, True], [True, True]])


def test_neighbours_vote_by_the_exponential_of_their_cosine() -> None:
    found = votes(TRAIN, SHOWN, np.array([[3.0, 0.0]], np.float32), "cpu", neighbours=(1, 2, 3))
    near, far = np.exp(-0.4 / 0.07), np.exp(-1.0 / 0.07)
    assert found[1].tolist() == [[1.0, 0.0]]
    assert found[2][0] == pytest.approx([1 / (1 + near), near / (1 + near)])
    assert found[3][0] == pytest.approx(
        [(1 + far) / (1 + near + far), (near + far) / (1 + near + far)], rel=1e-5
    )


def test_with_fewer_images_than_neighbours_all_vote() -> None:
    found = votes(TRAIN, SHOWN, TRAIN, "cpu", neighbours=(3, 200))
    assert np.array_equal(found[3], found[200])


def test_many_images_are_looked_up_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    train, test = (rng.normal(size=(size, 5)).astype(np.float32) for size in (30, 10))
    shown = rng.random((30, 4)) < 0.5
    whole = votes(train, shown, test, "cpu", neighbours=(7,))[7]
    monkeypatch.setattr("components.benchmarks.shared.neighbours.CHUNK", 3)
    assert votes(train, shown, test, "cpu", neighbours=(7,))[7] == pytest.approx(whole, rel=1e-5)


def test_classes_that_lie_apart_are_told_apart() -> None:
    labels = np.arange(40) % 4
    rng = np.random.default_rng(0)
    features = (np.eye(4)[labels] + rng.normal(scale=0.1, size=(40, 4))).astype(np.float32)
    found = votes(features[:20], np.eye(4, dtype=bool)[labels[:20]], features[20:], "cpu", neighbours=(5,))[5]
    assert (found.argmax(axis=1) == labels[20:]).all()
