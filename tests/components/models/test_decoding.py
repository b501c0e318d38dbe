import copy
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from components.core.caption_tokens import EOS_ID, NEVER_GENERATED
from components.core.errors import InputError
from components.models.backbones import TorchvisionBackbone
from components.models.decoding import (
    BeamCache,
    DecodedCaptions,
    beam_search,
    draw_from_nucleus,
    next_log_probs,
    nucleus_sample,
)
from components.models.textual_head import TransformerTextualHead

HeadMaker = Callable[..., TransformerTextualHead]


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(4, 8, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def score(head: TransformerTextualHead, features: torch.Tensor, tokens: list[int]) -> float:
    """Log probability of one caption, up to its first [EOS], from the full forward."""
    length = tokens.index(EOS_ID) + 1 if EOS_ID in tokens else len(tokens)
    caption = torch.tensor([[1, *tokens[:length]]])
    logits = head(features.unsqueeze(0), caption[:, :-1], torch.tensor([length]))
    return logits.log_softmax(-1).gather(2, caption[:, 1:, None]).sum().item()


@pytest.mark.parametrize("forbidden_ids", [(), NEVER_GENERATED], ids=["nothing_forbidden", "our_rule"])
@pytest.mark.parametrize(("eos_bias", "beam_size"), [("0", 5), ("0.5", 3)])
def test_golden_captions(
    golden_dir: Path,
    golden_fill: ModuleType,
    eos_bias: str,
    beam_size: int,
    forbidden_ids: tuple[int, ...],
) -> None:
    """The reference forbids nothing; on these models its search and ours come to the same captions."""
    searches = json.loads((golden_dir / "beam_search.json").read_text(encoding="utf-8"))["model"]
    case = f"captioning_postnorm/eos_bias+{eos_bias}/beam{beam_size}/steps30"
    golden = searches[case]["not_the_reference_with_sos_prefix"]
    model = torch.nn.ModuleDict(
        {
            "visual": TorchvisionBackbone("resnet18"),
            "textual": TransformerTextualHead(512, 120, 64, num_layers=2, num_heads=4, ffn_size=128),
        }
    )
    golden_fill.fill_module(model).double().eval()
    head = model["textual"]
    with torch.no_grad():
        head.output.bias[EOS_ID] += float(eos_bias)
        features = model["visual"](torch.from_numpy(golden_fill.images()))
    found = beam_search(head, features, beam_size, max_steps=30, forbidden_ids=forbidden_ids)
    assert found.tokens.tolist() == golden["predictions"]
    assert found.log_probs.tolist() == pytest.approx(golden["logprobs"], rel=1e-9)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_batched_equals_one_by_one(make_head: HeadMaker, features: torch.Tensor, norm: str) -> None:
    head = make_head(norm=norm)
    tokens, log_probs = beam_search(head, features)
    assert len({tuple(row) for row in tokens.tolist()}) > 1, "the images must differ in their captions"
    for row, image in enumerate(features):
        alone = beam_search(head, image.unsqueeze(0))
        padding = [EOS_ID] * (tokens.shape[1] - alone.tokens.shape[1])
        assert tokens[row].tolist() == alone.tokens[0].tolist() + padding
        assert log_probs[row].item() == pytest.approx(alone.log_probs.item(), rel=1e-9)


def test_scores_are_those_of_the_full_forward(make_head: HeadMaker, features: torch.Tensor) -> None:
    head = make_head()
    tokens, log_probs = beam_search(head, features, all_beams=True)
    assert tokens.shape[:2] == log_probs.shape == (4, 5)
    assert (log_probs[:, :-1] >= log_probs[:, 1:]).all()
    for row, beam in itertools.product(range(4), range(5)):
        expected = score(head, features[row], tokens[row, beam].tolist())
        assert log_probs[row, beam].item() == pytest.approx(expected, rel=1e-9)


def test_a_wide_search_is_exhaustive(make_head: HeadMaker, features: torch.Tensor) -> None:
    head = make_head()
    words = [token for token in range(30) if token not in NEVER_GENERATED]
    pairs = [(a, b) for a in words for b in words if (a != b or a == EOS_ID) and (a != EOS_ID or b == EOS_ID)]
    captions = torch.tensor([[1, *pair] for pair in pairs])
    logits = head(
        features[:1].expand(len(pairs), -1, -1, -1), captions[:, :-1], torch.tensor(2).expand(len(pairs))
    )
    token_scores = logits.log_softmax(-1).gather(2, captions[:, 1:, None]).squeeze(2)  # (pairs, 2)
    token_scores[captions[:, 1] == EOS_ID, 1] = 0.0
    best_score, best = token_scores.sum(dim=1).max(dim=0)
    found = beam_search(head, features[:1], beam_size=26, max_steps=2, candidates_per_beam=26)
    assert tuple(found.tokens[0].tolist()) == pairs[best]
    assert found.log_probs.item() == pytest.approx(best_score.item(), rel=1e-9)


def test_forbidden_tokens_and_repetitions_never_come(make_head: HeadMaker, features: torch.Tensor) -> None:
    head = make_head()
    with torch.no_grad():
        head.output.bias[list(NEVER_GENERATED)] += 50.0
        head.output.bias[7] += 20.0  # would follow itself if it could
    tokens, log_probs = beam_search(head, features, all_beams=True)
    assert log_probs.isfinite().all()
    assert not torch.isin(tokens, torch.tensor(NEVER_GENERATED)).any()
    repeated = (tokens[..., 1:] == tokens[..., :-1]) & (tokens[..., 1:] != EOS_ID)
    assert not repeated.any()
    assert (tokens == 7).any()
    ended = (tokens == EOS_ID).cummax(dim=-1).values
    assert (tokens[ended] == EOS_ID).all()


def test_stops_when_the_best_captions_have_ended(
    make_head: HeadMaker, features: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = make_head()
    with torch.no_grad():
        head.output.bias[EOS_ID] += 8.0
    steps = 0
    step = BeamCache.step

    def counting_step(cache: BeamCache, tokens: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += 1
        return step(cache, tokens)

    monkeypatch.setattr(BeamCache, "step", counting_step)
    best = beam_search(head, features)
    steps_for_best, steps = steps, 0
    every = beam_search(head, features, all_beams=True)
    assert best.tokens.shape[1] == steps_for_best < head.max_caption_length
    assert every.tokens.shape[2] == steps < head.max_caption_length
    assert steps_for_best <= steps
    torch.testing.assert_close(every.log_probs[:, 0], best.log_probs)
    assert (every.tokens[..., -1] == EOS_ID).all()


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_reduced_precision_is_scored_in_float32(
    make_head: HeadMaker, features: torch.Tensor, norm: str
) -> None:
    head = make_head(norm=norm)
    found = beam_search(copy.deepcopy(head).bfloat16(), features.bfloat16())
    assert found.log_probs.dtype == torch.float32
    for row, image in enumerate(features):  # near the exact score of the same caption
        expected = score(head, image, found.tokens[row].tolist())
        assert found.log_probs[row].item() == pytest.approx(expected, rel=0.05)


@pytest.mark.gpu
@pytest.mark.parametrize("decode", [beam_search, nucleus_sample])
def test_any_device(
    make_head: HeadMaker, features: torch.Tensor, decode: Callable[..., DecodedCaptions]
) -> None:
    """The nucleus is too small for more than one token: nothing depends on the device's generator."""
    options = {"nucleus": 1e-9} if decode is nucleus_sample else {}
    here = decode(make_head(), features, **options)
    there = decode(make_head().cuda(), features.cuda(), **options)
    assert there.tokens.is_cuda
    assert torch.equal(there.tokens.cpu(), here.tokens)
    torch.testing.assert_close(there.log_probs.cpu(), here.log_probs)


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 0.05)])
def test_a_gpu_s_own_attention(
    make_head: HeadMaker, features: torch.Tensor, dtype: torch.dtype, tolerance: float
) -> None:
    """In double precision, GPUs take another way."""
    head = make_head()
    found = beam_search(make_head().to("cuda", dtype), features.to("cuda", dtype))
    for row, image in enumerate(features):  # near the exact score of the same caption
        expected = score(head, image, found.tokens[row].tolist())
        assert found.log_probs[row].item() == pytest.approx(expected, rel=tolerance)


def test_after_the_end_only_the_end() -> None:
    log_probs = next_log_probs(torch.zeros(2, 6), torch.tensor([EOS_ID, 4]), NEVER_GENERATED)
    assert log_probs[0].tolist() == [-torch.inf, -torch.inf, 0.0, -torch.inf, -torch.inf, -torch.inf]
    assert log_probs[1].isfinite().tolist() == [False, False, True, False, False, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_steps": 13}, "max_steps must be from 1 to 12, not 13"),
        ({"max_steps": 0}, "not 0"),
        ({"beam_size": 0}, "must be positive"),
        ({"beam_size": 27}, "beam_size 27 is too large: the vocabulary has 27"),
    ],
)
def test_impossible_searches(
    make_head: HeadMaker, features: torch.Tensor, arguments: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        beam_search(make_head(), features, **arguments)  # type: ignore[arg-type]


@pytest.fixture
def many_features() -> torch.Tensor:
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


def test_seed_decides(make_head: HeadMaker, many_features: torch.Tensor) -> None:
    head = make_head()
    first, again, other = (
        nucleus_sample(head, many_features, generator=generator(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first.tokens, again.tokens)
    assert first.tokens.shape != other.tokens.shape or not torch.equal(first.tokens, other.tokens)


def test_rules_of_decoding_hold(make_head: HeadMaker, many_features: torch.Tensor) -> None:
    head = make_head()
    with torch.no_grad():
        head.output.bias[list(NEVER_GENERATED)] += 20.0
        head.output.bias[[7, EOS_ID]] += 2.0
    tokens, log_probs = nucleus_sample(head, many_features, nucleus=1.0, generator=generator())
    assert tokens.shape[0] == log_probs.shape[0] == 64
    assert not torch.isin(tokens, torch.tensor(NEVER_GENERATED)).any()
    assert not ((tokens[:, 1:] == tokens[:, :-1]) & (tokens[:, 1:] != EOS_ID)).any()
    ended = (tokens == EOS_ID).cummax(dim=-1).values
    assert ended.any()
    assert (tokens[ended] == EOS_ID).all()


def test_log_probs_are_the_models_own(make_head: HeadMaker, many_features: torch.Tensor) -> None:
    head = make_head()
    tokens, log_probs = nucleus_sample(head, many_features[:1], generator=generator(3))
    caption = tokens[:, : int((tokens != EOS_ID).sum()) + 1]
    inputs = torch.cat([torch.ones(1, 1, dtype=torch.int64), caption[:, :-1]], dim=1)
    logits = head(many_features[:1], inputs, torch.tensor([inputs.shape[1]]))
    expected = logits.log_softmax(-1).gather(2, caption.unsqueeze(-1)).sum()
    assert log_probs.item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_each_row_has_the_log_probability_of_its_own_caption(
    make_head: HeadMaker, many_features: torch.Tensor, norm: str
) -> None:
    """Whatever step a row ended at, and whatever was drawn for the others."""
    head = make_head(norm=norm)
    with torch.no_grad():
        head.output.bias[EOS_ID] += 1.0
    tokens, log_probs = nucleus_sample(head, many_features, generator=generator(4))
    ends = [[*row, EOS_ID].index(EOS_ID) + 1 for row in tokens.tolist()]
    assert len(set(ends)) > 2
    inputs = torch.cat([torch.ones(64, 1, dtype=torch.int64), tokens[:, :-1]], dim=1)
    logits = head(many_features, inputs, torch.full((64,), inputs.shape[1]))
    scores = logits.log_softmax(-1).gather(2, tokens.unsqueeze(-1)).squeeze(-1)
    for row, end in enumerate(ends):
        assert log_probs[row].item() == pytest.approx(scores[row, :end].sum().item(), rel=1e-9)


def test_stops_early(make_head: HeadMaker, many_features: torch.Tensor) -> None:
    head = make_head()
    with torch.no_grad():
        head.output.bias[EOS_ID] += 50.0
    assert nucleus_sample(head, many_features).tokens.tolist() == [[EOS_ID]] * 64


@pytest.mark.parametrize("nucleus", [0.0, 1.5])
def test_impossible_nucleus(make_head: HeadMaker, many_features: torch.Tensor, nucleus: float) -> None:
    with pytest.raises(InputError, match="nucleus must be in"):
        nucleus_sample(make_head(), many_features, nucleus)
