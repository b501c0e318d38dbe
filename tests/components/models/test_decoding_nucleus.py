from collections.abc import Callable

import pytest
import torch

from components.core.caption_tokens import EOS_ID, NEVER_GENERATED
from components.core.errors import InputError
from components.models.decoding import draw_from_nucleus, nucleus_sample
from components.models.textual_head import TransformerTextualHead

HeadMaker = Callable[..., TransformerTextualHead]


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(64, 8, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_only_the_nucleus_is_drawn_in_proportion() -> None:
    probs = torch.tensor([0.05, 0.5, 0.2, 0.25]).repeat(20_000, 1)
    drawn = draw_from_nucleus(probs, 0.7, generator()).flatten()
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(shares, torch.tensor([0.0, 2 / 3, 0.0, 1 / 3]), rtol=0, atol=0.02)


def test_a_tiny_nucleus_is_the_likeliest_token() -> None:
    probs = torch.rand(50, 9, generator=generator()).softmax(dim=1)
    drawn = draw_from_nucleus(probs, 1e-6, generator())
    assert torch.equal(drawn.flatten(), probs.argmax(dim=1))


def test_seed_decides(make_head: HeadMaker, features: torch.Tensor) -> None:
    head = make_head()
    first, again, other = (nucleus_sample(head, features, generator=generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first.tokens, again.tokens)
    assert first.tokens.shape != other.tokens.shape or not torch.equal(first.tokens, other.tokens)


def test_rules_of_decoding_hold(make_head: HeadMaker, features: torch.Tensor) -> None:
    head = make_head()
    with torch.no_grad():
        head.output.bias[list(NEVER_GENERATED)] += 20.0
        head.output.bias[[7, EOS_ID]] += 2.0
    tokens, log_probs = nucleus_sample(head, features, nucleus=1.0, generator=generator())
    assert tokens.shape[0] == log_probs.shape[0] == 64
    assert not torch.isin(tokens, torch.tensor(NEVER_GENERATED)).any()
    assert not ((tokens[:, 1:] == tokens[:, :-1]) & (tokens[:, 1:] != EOS_ID)).any()
    ended = (tokens == EOS_ID).cummax(dim=-1).values
    assert ended.any()
    assert (tokens[ended] == EOS_ID).all()


def test_log_probs_are_the_models_own(make_head: HeadMaker, features: torch.Tensor) -> None:
    head = make_head()
    tokens, log_probs = nucleus_sample(head, features[:1], generator=generator(3))
    caption = tokens[:, : int((tokens != EOS_ID).sum()) + 1]
    inputs = torch.cat([torch.ones(1, 1, dtype=torch.int64), caption[:, :-1]], dim=1)
    logits = head(features[:1], inputs, torch.tensor([inputs.shape[1]]))
    expected = logits.log_softmax(-1).gather(2, caption.unsqueeze(-1)).sum()
    assert log_probs.item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_each_row_has_the_log_probability_of_its_own_caption(
    make_head: HeadMaker, features: torch.Tensor, norm: str
) -> None:
    """Whatever step a row ended at, and whatever was drawn for the others."""
    head = make_head(norm=norm)
    with torch.no_grad():
        head.output.bias[EOS_ID] += 1.0
    tokens, log_probs = nucleus_sample(head, features, generator=generator(4))
    ends = [[*row, EOS_ID].index(EOS_ID) + 1 for row in tokens.tolist()]
    assert len(set(ends)) > 2
    inputs = torch.cat([torch.ones(64, 1, dtype=torch.int64), tokens[:, :-1]], dim=1)
    logits = head(features, inputs, torch.full((64,), inputs.shape[1]))
    scores = logits.log_softmax(-1).gather(2, tokens.unsqueeze(-1)).squeeze(-1)
    for row, end in enumerate(ends):
        assert log_probs[row].item() == pytest.approx(scores[row, :end].sum().item(), rel=1e-9)


def test_stops_early(make_head: HeadMaker, features: torch.Tensor) -> None:
    head = make_head()
    with torch.no_grad():
        head.output.bias[EOS_ID] += 50.0
    assert nucleus_sample(head, features).tokens.tolist() == [[EOS_ID]] * 64


@pytest.mark.parametrize("nucleus", [0.0, 1.5])
def test_impossible_nucleus(make_head: HeadMaker, features: torch.Tensor, nucleus: float) -> None:
    with pytest.raises(InputError, match="nucleus must be in"):
        nucleus_sample(make_head(), features, nucleus)
