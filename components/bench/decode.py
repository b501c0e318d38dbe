"""Beam search: our incremental decoding beside the public code's, which decodes each prefix anew."""

from dataclasses import dataclass

import torch
from torch import Tensor

from components.bench.device import wait
from components.bench.timing import Comparison, in_turn
from components.core import machine
from components.core.caption_tokens import EOS_ID, NEVER_GENERATED, SOS_ID
from components.models.decoding import DecodedCaptions, beam_search, next_log_probs
from components.models.textual_head import TransformerTextualHead

CANDIDATES_PER_BEAM = 2
TARGET = 15.0


@dataclass(frozen=True, slots=True)
class Size:
    """What is decoded: features of a ResNet-50 on 224 px are 2,048 channels on 7 x 7."""

    batch: int = 16
    beams: int = 5
    steps: int = 30
    hidden_size: int = 1024
    vocab_size: int = 10_000
    feature_size: int = 2048


FULL = Size()
QUICK = Size(batch=2, beams=3, steps=6, hidden_size=64, vocab_size=50, feature_size=16)


def run(size: Size, rounds: int) -> list[Comparison]:
    """Measure images per second, on the clock, in one row."""
    device = torch.device(machine.device_name())
    torch.manual_seed(0)
    head = TransformerTextualHead(
        size.feature_size, size.vocab_size, size.hidden_size, max_caption_length=size.steps
    )
    with torch.no_grad():
        head.output.bias[EOS_ID] = -100.0  # no caption ends early: both sides take all steps
    head = head.eval().to(device)
    features = torch.randn(size.batch, size.feature_size, 7, 7, device=device)
    found: dict[str, DecodedCaptions] = {}

    def baseline() -> None:
        found["baseline"] = prefix_beam_search(head, features, size.beams, size.steps)
        wait(device)

    def ours() -> None:
        found["ours"] = beam_search(head, features, size.beams, size.steps)
        wait(device)

    baseline_times, our_times = in_turn((baseline, ours), rounds)
    same = (found["baseline"].tokens == found["ours"].tokens).all(dim=1).sum()
    name = f"beam search {size.beams}, {size.steps} steps, H{size.hidden_size}, batch {size.batch}, fp32"
    figures = {"same captions": f"{int(same)} of {size.batch}", "device": str(device)}
    return [Comparison(name, size.batch, "images", "wall", baseline_times, our_times, TARGET, figures)]


@torch.no_grad()
def prefix_beam_search(
    head: TransformerTextualHead, visual_features: Tensor, beam_size: int, max_steps: int
) -> DecodedCaptions:
    """Search alike with nothing kept: every step feeds all prefixes, and their images, from the start."""
    batch = visual_features.shape[0]
    start = torch.full((batch, 1), SOS_ID, device=visual_features.device)
    first = _after_prefix(head, visual_features, start)
    scores, last = first.topk(beam_size)  # (batch, beams)
    repeated = visual_features.repeat_interleave(beam_size, dim=0)
    prefixes = torch.cat([start.repeat_interleave(beam_size, dim=0), last.view(-1, 1)], dim=1)
    for _ in range(max_steps - 1):
        log_probs = _after_prefix(head, repeated, prefixes).view(batch, beam_size, -1)
        gains, choices = log_probs.topk(CANDIDATES_PER_BEAM)
        scores, best = (scores.unsqueeze(-1) + gains).flatten(1).topk(beam_size)
        parents = best // CANDIDATES_PER_BEAM
        last = choices.flatten(1).gather(1, best)
        rows = (parents + torch.arange(batch, device=parents.device).unsqueeze(1) * beam_size).flatten()
        prefixes = torch.cat([prefixes[rows], last.view(-1, 1)], dim=1)
    return DecodedCaptions(prefixes.view(batch, beam_size, -1)[:, 0, 1:], scores[:, 0])


def _after_prefix(head: TransformerTextualHead, features: Tensor, prefixes: Tensor) -> Tensor:
    lengths = torch.full((len(prefixes),), prefixes.shape[1], device=prefixes.device)
    logits = head(features, prefixes, lengths)[:, -1]
    return next_log_probs(logits, prefixes[:, -1], NEVER_GENERATED)
