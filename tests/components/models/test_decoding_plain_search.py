"""Beam search against the same search written plainly: one image, whole prefixes, Python loops."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from components.core.caption_tokens import EOS_ID, SOS_ID
from components.models.backbones import TorchvisionBackbone
from components.models.decoding import beam_search
from components.models.textual_head import TransformerTextualHead

HeadMaker = Callable[..., TransformerTextualHead]
Beams = list[tuple[float, list[int]]]  # score and tokens, best first


def plain_search(
    head: TransformerTextualHead,
    features: torch.Tensor,
    beam_size: int,
    max_steps: int,
    forbidden_ids: tuple[int, ...] = (),
    keep_sos: bool = True,
) -> Beams:
    """Captions of one image ``(feature_size, height, width)``.

    With ``keep_sos=False`` the rule of the public code: [SOS] is fed in the first step and left out
    of the prefix after it, so that each later word stands one position too early.
    """

    def continuations(tokens: list[int], how_many: int) -> Beams:
        if tokens and tokens[-1] == EOS_ID:
            return [(0.0, [EOS_ID])]
        prefix = torch.tensor([([SOS_ID] if keep_sos or not tokens else []) + tokens])
        logits = head(features.unsqueeze(0), prefix, torch.tensor([prefix.shape[1]]))[0, -1]
        scores = dict(enumerate(logits.log_softmax(-1).tolist()))
        for token in (*forbidden_ids, *tokens[-1:]):
            scores.pop(token, None)
        if not tokens:
            scores.pop(SOS_ID, None)
        return [(scores[token], [token]) for token in sorted(scores, key=scores.get, reverse=True)[:how_many]]

    beams = continuations([], beam_size)
    for _ in range(max_steps - 1):
        grown = [(s + gain, tokens + new) for s, tokens in beams for gain, new in continuations(tokens, 2)]
        beams = sorted(grown, key=lambda beam: -beam[0])[:beam_size]
    return beams


@pytest.mark.parametrize(("eos_bias", "beam_size"), [("0", 5), ("0.5", 3)])
def test_the_references_own_rule_gives_its_own_captions(
    golden_dir: Path, golden_fill: ModuleType, eos_bias: str, beam_size: int
) -> None:
    """All beams of the public code come out of our modules, if only [SOS] is dropped as it does."""
    searches = json.loads((golden_dir / "beam_search.json").read_text(encoding="utf-8"))["model"]
    golden = searches[f"captioning_postnorm/eos_bias+{eos_bias}/beam{beam_size}/steps30"]
    model = torch.nn.ModuleDict(
        {
            "visual": TorchvisionBackbone("resnet18"),
            "textual": TransformerTextualHead(512, 120, 64, num_layers=2, num_heads=4, ffn_size=128),
        }
    )
    golden_fill.fill_module(model).double().eval()
    with torch.no_grad():
        model["textual"].output.bias[EOS_ID] += float(eos_bias)
        features = model["visual"](torch.from_numpy(golden_fill.images()))
        for row, image in enumerate(features):
            beams = plain_search(model["textual"], image, beam_size, 30, keep_sos=False)
            assert [tokens for _, tokens in beams] == golden["all_beams"][row]
            assert [s for s, _ in beams] == pytest.approx(golden["all_logprobs"][row], rel=1e-9)
            assert beams[0][1] == golden["predictions"][row]


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize(("num_layers", "beam_size"), [(1, 1), (2, 4), (3, 5)])
def test_the_fast_search_finds_what_the_plain_one_finds(
    make_head: HeadMaker, norm: str, num_layers: int, beam_size: int
) -> None:
    head = make_head(norm=norm, num_layers=num_layers)
    features = torch.randn(5, 8, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        head.output.bias[EOS_ID] += {"post": 1.0, "pre": 2.5}[norm]
        found = beam_search(head, features, beam_size, forbidden_ids=(0, 1, 3), all_beams=True)
        plain = [plain_search(head, image, beam_size, 12, (0, 1, 3)) for image in features]
    for tokens, scores, beams in zip(found.tokens.tolist(), found.log_probs.tolist(), plain, strict=True):
        assert tokens == [words[: found.tokens.shape[2]] for _, words in beams]
        assert scores == pytest.approx([s for s, _ in beams], rel=1e-9)
    best = beam_search(head, features, beam_size, forbidden_ids=(0, 1, 3))
    assert best.log_probs.tolist() == pytest.approx([beams[0][0] for beams in plain], rel=1e-9)
    if beam_size > 1:
        lengths = {[*row, EOS_ID].index(EOS_ID) for row in best.tokens.tolist()}
        assert len(lengths) > 1, "captions must end at different steps"
