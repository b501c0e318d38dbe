"""Attention pooling with weights worked out by hand, its loss, and a head that has something to find."""

import math

import numpy as np
import pytest
import torch

from components.benchmarks.probes.attentive import AttentionPool, binary_loss, scores
from components.core.errors import InputError


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTEX_DEVICE", "cpu")


def test_places_count_by_the_softmax_of_their_product_with_the_query() -> None:
    """Query (sqrt 2 ln 3, 0) and places (1, 0), (0, 1): logits ln 3 and 0, so shares 3/4 and 1/4."""
    pool = AttentionPool(2, heads=1)
    with torch.no_grad():
        pool.query.copy_(torch.tensor([math.sqrt(2) * math.log(3), 0.0]))
        pool.attention.in_proj_weight.copy_(torch.eye(2).repeat(3, 1))
        pool.attention.out_proj.weight.copy_(torch.eye(2))
        pool.mlp[2].weight.zero_()
        pool.mlp[2].bias.copy_(torch.tensor([10.0, 20.0]))
    found = pool(torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]]))  # one row of two places
    assert found[0].tolist() == pytest.approx([10.75, 20.25])


def test_pooling_is_that_of_timm() -> None:
    reason = "timm is not installed: pip install timm"
    theirs = pytest.importorskip("timm.layers", reason=reason).AttentionPoolLatent(32)
    ours = AttentionPool(32)
    attention = ours.attention
    with torch.no_grad():
        ours.query.copy_(theirs.latent)
        attention.in_proj_weight.copy_(torch.cat([theirs.q.weight, theirs.kv.weight]))
        attention.in_proj_bias.copy_(torch.cat([theirs.q.bias, theirs.kv.bias]))
    attention.out_proj.load_state_dict(theirs.proj.state_dict())
    ours.mlp[0].load_state_dict(theirs.mlp.fc1.state_dict())
    ours.mlp[2].load_state_dict(theirs.mlp.fc2.state_dict())
    maps = torch.randn(3, 32, 2, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(maps), theirs(maps.flatten(2).transpose(1, 2)))


def test_difficult_objects_do_not_count_in_the_loss() -> None:
    logits = torch.tensor([[math.log(3), 5.0], [0.0, -9.0]])
    labels = torch.tensor([[1, 0], [-1, 0]], dtype=torch.int8)
    assert binary_loss(logits, labels).item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    assert binary_loss(logits, 0 * labels).item() == 0.0


def toy(num_images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps with a class's channel at one place out of four; a mean over places halves it under the noise."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(0, 0.3, (num_images, 16, 2, 2)).astype(np.float32)
    labels = rng.choice(np.array([1, -1], np.int8), (num_images, 2))
    for image, row in enumerate(labels):
        for channel in np.flatnonzero(row > 0):
            maps[image, channel, *rng.integers(0, 2, 2)] += 6
    return maps, labels


def test_what_can_be_told_apart_is() -> None:
    maps, labels = toy(200, seed=0)
    others, expected = toy(100, seed=1)
    found = scores(maps, labels, others, epochs=40)
    assert found.shape == (100, 2)
    assert np.array_equal(found > 0, expected > 0)
    assert np.array_equal(*(scores(maps, labels, others, epochs=1) for _ in range(2)))


def test_what_cannot_be_trained_on_is_refused() -> None:
    maps, labels = toy(4, seed=0)
    with pytest.raises(InputError, match="attentive probe: 1 image to train on; expected two or more"):
        scores(maps[:1], labels[:1], maps, epochs=1)
    maps[2] = np.nan
    with pytest.raises(InputError, match="attentive probe: the loss is nan"):
        scores(maps, labels, maps, epochs=1)
