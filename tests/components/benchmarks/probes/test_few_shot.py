"""Ridge regression from few images, worked out by hand."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from components.benchmarks.probes import backbone
from components.benchmarks.probes.backbone import PENALTY, FewShots, few_shots, rank_in_class, ridge


def test_two_examples_worked_out_by_hand() -> None:
    """Examples 1 and -1 with targets of 1 and -1: the weight is 2 / (2 + 1), and 3 gives 2."""
    outputs = ridge(torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1]), 2, torch.tensor([[3.0], [0.0]]))
    assert outputs.numpy() == pytest.approx(np.array([[2.0, -2.0], [0.0, 0.0]]))


@pytest.mark.parametrize("num_examples", [6, 60])  # fewer and more than features
def test_both_closed_forms_are_ridge_regression(num_examples: int) -> None:
    rng = np.random.default_rng(0)
    examples, asked = rng.normal(size=(num_examples, 12)), rng.normal(size=(5, 12))
    labels = np.arange(num_examples) % 3
    outputs = ridge(torch.from_numpy(examples), torch.from_numpy(labels), 3, torch.from_numpy(asked))
    scale = np.sqrt(np.square(examples - examples.mean(axis=0)).sum(axis=1).mean())
    expected = Ridge(alpha=PENALTY).fit(examples / scale, 2 * np.eye(3)[labels] - 1)
    assert outputs.numpy() == pytest.approx(expected.predict(asked / scale))


def test_a_backbone_without_any_difference_gives_no_nan() -> None:
    same = np.ones((6, 3), np.float32)
    labels = np.array([0, 1, 2, 0, 1, 2])
    assert not few_shots(same, labels, same, labels, "cpu", shots=(1,))[1].hits.all()


def test_each_image_is_numbered_within_its_class() -> None:
    assert rank_in_class(np.array([2, 0, 2, 2, 0, 1])).tolist() == [0, 0, 1, 2, 1, 0]


def test_draws_take_as_many_images_of_each_class_the_smaller_numbers_within_the_larger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[set[float]] = []

    def recorded(
        examples: torch.Tensor, labels: torch.Tensor, count: int, asked: torch.Tensor
    ) -> torch.Tensor:
        assert np.bincount(labels.numpy()).tolist() == [len(labels) // 2] * 2
        taken.append(set(examples[:, 0].tolist()))
        return torch.zeros(len(asked), count)

    monkeypatch.setattr(backbone, "ridge", recorded)
    angles = np.linspace(0.1, 1.0, 20)
    train = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    few_shots(train, np.arange(20) % 2, train, np.arange(20) % 2, "cpu", shots=(1, 5))
    assert [len(one) for one in taken] == [2, 10] * 10
    assert all(few < more for few, more in zip(taken[::2], taken[1::2], strict=True))
    assert len({frozenset(one) for one in taken[1::2]}) == 10


def test_accuracy_is_the_mean_over_draws_and_its_spread_comes_from_both() -> None:
    hits = np.zeros((10, 400), bool)
    hits[:5] = True  # draws differ, test images do not: the standard error is 50 / sqrt(10)
    shots = FewShots(hits)
    assert shots.accuracy == 50
    assert shots.resampled().std() == pytest.approx(50 / np.sqrt(10), rel=0.1)
    hits = np.tile(np.arange(400) < 100, (10, 1))  # images differ, draws do not
    assert FewShots(hits).resampled().std() == pytest.approx(100 * np.sqrt(0.25 * 0.75 / 400), rel=0.1)


def test_more_images_of_a_class_are_no_worse() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(300) % 3
    features = (np.eye(3)[labels] + rng.normal(scale=0.6, size=(300, 3))).astype(np.float32)
    found = few_shots(features[:150], labels[:150], features[150:], labels[150:], "cpu", shots=(1, 10))
    assert 33 < found[1].accuracy < found[10].accuracy
