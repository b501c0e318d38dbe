from collections.abc import Callable

import pytest
import torch

from components.models.key_value_cache import KeyValueCache
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
    cache = KeyValueCache(head, features)
    for position in range(LENGTH):
        logits = cache.step(tokens[..., position])
        torch.testing.assert_close(logits, expected[:, :, position], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_select_continues_the_chosen_beams(
    make_head: HeadMaker, features: torch.Tensor, tokens: torch.Tensor, norm: str
) -> None:
    head = make_head(norm=norm)
    chosen = torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 0]])
    cache = KeyValueCache(head, features)
    for position in range(LENGTH - 1):
        cache.step(tokens[..., position])
    cache.select(chosen)
    continued = tokens.gather(1, chosen.unsqueeze(-1).expand(-1, -1, LENGTH))
    logits = cache.step(continued[..., -1])
    torch.testing.assert_close(logits, full_logits(head, features, continued)[:, :, -1], rtol=1e-9, atol=1e-9)


def test_positions_run_out(make_head: HeadMaker, features: torch.Tensor) -> None:
    cache = KeyValueCache(make_head(max_caption_length=1), features)
    cache.step(torch.ones(BATCH, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="only 1 positions"):
        cache.step(torch.ones(BATCH, 1, dtype=torch.int64))


def test_bidirectional_heads_are_refused(make_head: HeadMaker, features: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="only a causal textual head"):
        KeyValueCache(make_head(causal=False), features)
