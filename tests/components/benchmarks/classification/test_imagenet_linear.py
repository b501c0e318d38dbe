from pathlib import Path

import numpy as np
import pytest
import torch

from components.benchmarks.classification.imagenet_linear import feature_batches, hold_out
from components.benchmarks.classification.results import Head, diverged_rates, figures_by_rate
from components.core.errors import InputError
from components.data.sampling import Shard
from components.sources.readers.types import ClassifiedImages


def images(*counts: int) -> ClassifiedImages:
    labels = np.repeat(np.arange(len(counts)), counts)
    classes = tuple(f"c{index}" for index in range(len(counts)))
    return ClassifiedImages([Path(f"{index}.jpg") for index in range(len(labels))], classes, labels)


def test_a_share_of_every_class_is_held_out() -> None:
    whole = images(10, 20, 4)
    train, held_out = hold_out(whole, 0.2, seed=0)
    assert held_out is not None
    assert np.bincount(held_out.labels, minlength=3).tolist() == [2, 4, 0]
    assert np.bincount(train.labels, minlength=3).tolist() == [8, 16, 4]
    assert sorted(train.image_paths + held_out.image_paths) == sorted(whole.image_paths)
    for part in (train, held_out):
        numbers = [int(path.stem) for path in part.image_paths]
        assert whole.labels[numbers].tolist() == part.labels.tolist()
    assert hold_out(whole, 0.2, seed=0)[1].image_paths == held_out.image_paths  # type: ignore[union-attr]
    assert hold_out(whole, 0.2, seed=1)[1].image_paths != held_out.image_paths  # type: ignore[union-attr]


def test_nothing_is_held_out() -> None:
    whole = images(3, 3)
    train, held_out = hold_out(whole, 0.0, seed=0)
    assert train is whole
    assert held_out is None


def test_a_share_too_small_for_every_class_is_refused() -> None:
    with pytest.raises(InputError, match=r"imagenet_linear\.holdout: 0\.1 .* raise it"):
        hold_out(images(5, 6), 0.1, seed=0)


def test_feature_batches_keep_order_and_rest() -> None:
    features = np.arange(10, dtype=np.float32).reshape(5, 2)
    batches = feature_batches(features, np.arange(5), batch_size=2)
    assert [len(batch["label"]) for batch in batches] == [2, 2, 1]
    assert torch.cat([batch["features"] for batch in batches]).numpy().tolist() == features.tolist()


def test_processes_share_the_features_out() -> None:
    features, labels = np.arange(10, dtype=np.float32).reshape(5, 2), np.arange(5)
    shares = [feature_batches(features, labels, Shard(rank, 2), 9) for rank in range(2)]
    assert [batch["label"].tolist() for (batch,) in shares] == [[0, 2, 4], [1, 3]]
    assert shares[1][0]["features"].tolist() == features[1::2].tolist()


def test_figures_of_each_rate() -> None:
    ranked = np.array([[[0, 1], [1, 0]], [[1, 0], [1, 0]]])
    heads, labels = [Head("", 0.3), Head("", 3.0)], np.array([0, 1])
    figures = figures_by_rate(heads, labels, ranked, {})
    assert figures == {"0.3": {"top1": 100.0, "top5": 100.0}, "3": {"top1": 50.0, "top5": 100.0}}
    assert figures_by_rate(heads, labels, ranked, {"0.3": "why"}) == {"3": figures["3"]}


def test_a_head_that_diverged_has_a_reason_with_its_iteration() -> None:
    heads = [Head("_lr0.3", 0.3), Head("_lr3", 3.0), Head("_lr30", 30.0)]
    rows = [
        {"iteration": 10, "loss_lr0.3": 2.0, "loss_lr3": 9.0, "loss_lr30": 9.0},
        {"iteration": 20, "loss_lr0.3": 1.0, "loss_lr30": 99.0},  # and its weights at the last step
    ]
    reason = "its loss or gradient was beyond all bounds by iteration 20 of 20"
    assert diverged_rates(heads, [False, True, True], rows) == {"3": reason, "30": reason}
