from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from components.core.caption_tokens import EOS_ID
from components.models.beam_kv_cache import BeamCache
from components.models.cross_attention import cross_attention
from components.models.textual_head import TransformerTextualHead

HeadMaker = Callable[..., TransformerTextualHead]
BATCH, LENGTH, HEIGHT, WIDTH = 3, 5, 2, 3


@pytest.fixture
def features() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(BATCH, 8, HEIGHT, WIDTH, dtype=torch.float64, generator=generator)


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(4, 30, (BATCH, LENGTH), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_attention_is_what_decoding_computes_with(
    make_head: HeadMaker,
    features: torch.Tensor,
    tokens: torch.Tensor,
    norm: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The maps are those of the last layer's queries and keys in the search's own arithmetic."""
    head = make_head(norm=norm)
    maps = cross_attention(head, features, tokens)
    assert maps.shape == (BATCH, LENGTH, HEIGHT, WIDTH)
    torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(BATCH, LENGTH, dtype=torch.float64))

    looked: list[torch.Tensor] = []  # of every call over the image: (batch, positions)
    attend = F.scaled_dot_product_attention

    def recording(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        if key.shape[2] == HEIGHT * WIDTH and key.shape[0] == BATCH:
            weights = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(dim=-1)
            looked.append(weights.mean(dim=1).squeeze(1))
        return attend(query, key, value, attn_mask)

    monkeypatch.setattr(F, "scaled_dot_product_attention", recording)
    cache = BeamCache(head, features)
    for previous in [torch.ones(BATCH, dtype=torch.int64), *tokens[:, :-1].T]:
        cache.step(previous.unsqueeze(1))
    last_layer = torch.stack(looked[1::2], dim=1)  # two layers
    torch.testing.assert_close(maps.flatten(2), last_layer[:, :LENGTH], rtol=1e-9, atol=1e-9)


def test_what_follows_the_end_changes_nothing(
    make_head: HeadMaker, features: torch.Tensor, tokens: torch.Tensor
) -> None:
    head = make_head()
    padded = torch.cat([tokens, torch.full((BATCH, 2), EOS_ID)], dim=1)
    maps = cross_attention(head, features, padded)[:, :LENGTH]
    torch.testing.assert_close(maps, cross_attention(head, features, tokens))


def test_the_head_is_as_before(make_head: HeadMaker, features: torch.Tensor, tokens: torch.Tensor) -> None:
    head = make_head()
    lengths = torch.full((BATCH,), LENGTH)
    before = head(features, tokens, lengths)
    cross_attention(head, features, tokens)
    with pytest.raises(RuntimeError):
        cross_attention(head, features[:, :5], tokens)  # fails inside the head
    attention = head.transformer.layers[-1].multihead_attn
    assert not attention._forward_hooks
    assert not attention._forward_pre_hooks
    assert torch.equal(head(features, tokens, lengths), before)
