from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from components.core.errors import InputError
from components.models.textual_head import LinearTextualHead, TransformerTextualHead, WordAndPositionEmbedding

HeadMaker = Callable[..., TransformerTextualHead]
FEATURES = torch.randn(2, 8, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TOKENS = torch.tensor([[1, 5, 6, 7, 2], [1, 9, 2, 0, 0]])
LENGTHS = torch.tensor([5, 3])


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_causal_head_sees_only_the_past(make_head: HeadMaker, norm: str) -> None:
    head = make_head(norm=norm)
    changed = TOKENS.clone()
    changed[0, 3] = 20
    before, after = head(FEATURES, TOKENS, LENGTHS), head(FEATURES, changed, LENGTHS)
    assert before.shape == (2, 5, 30)
    torch.testing.assert_close(before[0, :3], after[0, :3], rtol=0, atol=1e-12)
    assert (before[0, 3] - after[0, 3]).abs().max() > 1e-3


def test_bidirectional_head_sees_the_future(make_head: HeadMaker) -> None:
    head = make_head(causal=False)
    changed = TOKENS.clone()
    changed[0, 3] = 20
    difference = head(FEATURES, TOKENS, LENGTHS) - head(FEATURES, changed, LENGTHS)
    assert difference[0, 0].abs().max() > 1e-3


@pytest.mark.parametrize("causal", [True, False])
def test_padding_changes_nothing(make_head: HeadMaker, causal: bool) -> None:
    head = make_head(causal=causal)
    padded = head(FEATURES, TOKENS, LENGTHS)[1, :3]
    alone = head(FEATURES[1:], TOKENS[1:, :3], LENGTHS[1:])[0]
    torch.testing.assert_close(padded, alone, rtol=0, atol=1e-9)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_same_result_without_gradients(make_head: HeadMaker, norm: str) -> None:
    head = make_head(norm=norm)
    expected = head(FEATURES, TOKENS, LENGTHS)
    with torch.no_grad():
        torch.testing.assert_close(head(FEATURES, TOKENS, LENGTHS), expected, rtol=0, atol=1e-9)


def test_names_of_the_norms(make_head: HeadMaker) -> None:
    assert "transformer.norm.weight" in make_head(norm="pre").state_dict()
    assert "transformer.norm.weight" not in make_head(norm="post").state_dict()


@pytest.mark.parametrize(
    ("chosen", "std"), [({}, (0.02, 0.02)), ({"init_std": 0.2, "embedding_init_std": 0.5}, (0.2, 0.5))]
)
def test_initial_weights(chosen: dict[str, float], std: tuple[float, float]) -> None:
    torch.manual_seed(0)
    head = TransformerTextualHead(64, 500, 128, **chosen)  # type: ignore[arg-type]
    layer = head.transformer.layers[0]
    for weight, expected in (
        (head.visual_projection.weight, std[0]),
        (head.embedding.words.weight[1:], std[1]),
        (head.embedding.positions.weight, std[1]),
        (layer.self_attn.in_proj_weight, std[0]),
        (layer.multihead_attn.out_proj.weight, std[0]),
        (layer.linear1.weight, std[0]),
    ):
        assert abs(weight.std().item() - expected) < 0.05 * expected
    assert head.embedding.words.weight[0].count_nonzero() == 0
    assert head.output.weight is head.embedding.words.weight
    assert layer.self_attn.num_heads == 2
    assert layer.linear1.out_features == 512
    assert head.embedding.layer_norm.eps == 1e-8


def test_twin_shares_all_but_the_transformer(make_head: HeadMaker) -> None:
    head = make_head()
    twin = head.twin()
    for shared in ("visual_projection", "embedding", "output"):
        assert getattr(twin, shared) is getattr(head, shared)
    ours, theirs = dict(head.transformer.named_parameters()), dict(twin.transformer.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) and ours[name] is not theirs[name] for name in ours)
    assert isinstance(theirs["layers.0.linear1.weight"], nn.Parameter)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 3}, "hidden_size 16 is not a multiple"),
        ({"norm": "both"}, "norm must be 'post' or 'pre'"),
    ],
)
def test_impossible_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TransformerTextualHead(8, 30, 16, **arguments)


def test_padding_is_zero_and_position_counts() -> None:
    torch.manual_seed(0)
    embedding = WordAndPositionEmbedding(10, 8, max_length=5, dropout=0.5).eval()
    embedded = embedding(torch.tensor([[1, 4, 4, 0]]))
    assert embedded.shape == (1, 4, 8)
    assert embedded[0, 3].count_nonzero() == 0
    assert not torch.allclose(embedded[0, 1], embedded[0, 2])


def test_first_position_continues_a_caption() -> None:
    torch.manual_seed(0)
    embedding = WordAndPositionEmbedding(10, 8, max_length=5, dropout=0.0)
    tokens = torch.tensor([[1, 4, 7, 9, 2]])
    torch.testing.assert_close(embedding(tokens[:, 3:], first_position=3), embedding(tokens)[:, 3:])


def test_padding_word_gets_no_gradient() -> None:
    embedding = WordAndPositionEmbedding(10, 8, max_length=5, dropout=0.0)
    (embedding(torch.tensor([[1, 4, 0]])) * torch.arange(8.0)).sum().backward()
    gradient = embedding.words.weight.grad
    assert gradient is not None
    assert gradient[0].count_nonzero() == 0
    assert gradient[4].count_nonzero() > 0


def test_logits_are_linear_in_the_mean_feature() -> None:
    torch.manual_seed(0)
    head = LinearTextualHead(8, 5)
    features = torch.randn(3, 8, 2, 4)
    expected = features.mean(dim=(2, 3)) @ head.output.weight.T + head.output.bias
    torch.testing.assert_close(head(features), expected)
    assert list(head.state_dict()) == ["output.weight", "output.bias"]
