from collections.abc import Callable

import pytest
import torch

from components.models.decoding import BeamCache, BeamPaths
from components.models.textual_head import TransformerTextualHead

HeadMaker = Callable[..., TransformerTextualHead]
BATCH, BEAMS, LENGTH = 3, 2, 7


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(BATCH, 8, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tokens() -> torch.Tensor:
    drawn = torch.randint(4, 30, (BATCH, BEAMS, LENGTH), generator=torch.Generator().manual_seed(2))
    drawn[..., 0] = 1
    return drawn


def full_logits(head: TransformerTextualHead, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    batch, beams, length = tokens.shape
    rows = features.repeat_interleave(beams, dim=0)
    lengths = torch.full((batch * beams,), length)
    return head(rows, tokens.flatten(0, 1), lengths).view(batch, beams, length, -1)


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_every_step_equals_the_full_forward(
    make_head: HeadMaker,
    features: torch.Tensor,
    tokens: torch.Tensor,
    norm: str,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    head, features = make_head(norm=norm).to(dtype), features.to(dtype)
    expected = full_logits(head, features, tokens)
    cache = BeamCache(head, features)
    for position in range(LENGTH):
        logits = cache.step(tokens[..., position])
        torch.testing.assert_close(logits, expected[:, :, position], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_select_continues_the_chosen_beams(
    make_head: HeadMaker, features: torch.Tensor, tokens: torch.Tensor, norm: str
) -> None:
    head = make_head(norm=norm)
    chosen = torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 0]])
    cache = BeamCache(head, features)
    for position in range(LENGTH - 1):
        cache.step(tokens[..., position])
    cache.select(chosen)
    continued = tokens.gather(1, chosen.unsqueeze(-1).expand(-1, -1, LENGTH))
    logits = cache.step(continued[..., -1])
    torch.testing.assert_close(logits, full_logits(head, features, continued)[:, :, -1], rtol=1e-9, atol=1e-9)


def test_positions_run_out(make_head: HeadMaker, features: torch.Tensor) -> None:
    cache = BeamCache(make_head(max_caption_length=1), features)
    cache.step(torch.ones(BATCH, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="only 1 positions"):
        cache.step(torch.ones(BATCH, 1, dtype=torch.int64))


def test_bidirectional_heads_are_refused(make_head: HeadMaker, features: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="only a causal textual head"):
        BeamCache(make_head(causal=False), features)


NUM_IMAGES, HEADS, SIZE = 2, 3, 4


def feed(kept: BeamPaths, values: list[list[float]]) -> torch.Tensor:
    """One step; a token's key is its value everywhere. Returns (batch, slots)."""
    tokens = torch.tensor(values)
    key = tokens[:, None, :, None].expand(-1, HEADS, -1, SIZE)
    kept.grow(tokens)
    keys, negated = kept.keep(0, key, -key)
    assert torch.equal(keys, -negated)
    assert torch.equal(keys, keys[:, :1, :, :1].expand_as(keys))
    return keys[:, 0, :, 0]


def paths(kept: BeamPaths, slots: torch.Tensor) -> list[list[list[float]]]:
    """By image and beam: what the beam may look at, in order."""
    return [
        [row[seen].tolist() for seen in image] for row, image in zip(slots, kept.mask.squeeze(1), strict=True)
    ]


def test_each_beam_sees_its_own_past() -> None:
    kept = BeamPaths(num_layers=1)
    assert paths(kept, feed(kept, [[1.0], [-1.0]])) == [[[1]], [[-1]]]
    kept.select(torch.zeros(NUM_IMAGES, 2, dtype=torch.int64))
    assert paths(kept, feed(kept, [[2.0, 3.0], [-2.0, -3.0]])) == [[[1, 2], [1, 3]], [[-1, -2], [-1, -3]]]
    kept.select(torch.tensor([[1, 1, 0], [0, 0, 0]]))
    assert paths(kept, feed(kept, [[4.0, 5.0, 6.0], [-4.0, -5.0, -6.0]])) == [
        [[1, 3, 4], [1, 3, 5], [1, 2, 6]],
        [[-1, -2, -4], [-1, -2, -5], [-1, -2, -6]],
    ]


@pytest.mark.parametrize("steps", [1, 2, 3, 9, 40])
def test_there_is_always_room(steps: int) -> None:
    kept = BeamPaths(num_layers=1)
    for step in range(steps):
        slots = feed(kept, [[2.0 * step, 2.0 * step + 1]] * NUM_IMAGES)
    assert slots[0].tolist() == list(range(2 * steps))
    assert paths(kept, slots)[1] == [list(range(0, 2 * steps, 2)), list(range(1, 2 * steps, 2))]
