import pytest
import torch

from components.models.beam_kv_cache import BeamPaths

BATCH, HEADS, SIZE = 2, 3, 4


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
    kept.select(torch.zeros(BATCH, 2, dtype=torch.int64))
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
        slots = feed(kept, [[2.0 * step, 2.0 * step + 1]] * BATCH)
    assert slots[0].tolist() == list(range(2 * steps))
    assert paths(kept, slots)[1] == [list(range(0, 2 * steps, 2)), list(range(1, 2 * steps, 2))]
