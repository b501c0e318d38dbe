"""Nucleus sampling of captions (arXiv 1904.09751)."""

import torch
from torch import Tensor

from components.errors import InputError
from components.models.decoding import DecodedCaptions, next_log_probs
from components.models.key_value_cache import KeyValueCache
from components.models.special_ids import EOS_ID, NEVER_GENERATED, SOS_ID
from components.models.textual_head import TransformerTextualHead


@torch.no_grad()
def nucleus_sample(
    head: TransformerTextualHead,
    visual_features: Tensor,
    nucleus: float = 0.9,
    max_steps: int | None = None,
    generator: torch.Generator | None = None,
    forbidden_ids: tuple[int, ...] = NEVER_GENERATED,
) -> DecodedCaptions:
    """Draw one caption an image, each token from the likeliest ones that together reach ``nucleus``.

    The rules of beam search hold: no token follows itself, ``forbidden_ids`` are never drawn, an
    ended caption goes on with [EOS]. The probabilities of what remains are normalised before the
    nucleus is cut. The returned log probabilities are the model's own.

    Args:
        head: a causal textual head.
        visual_features: ``(batch, feature_size, height, width)``.
        nucleus: probability mass to draw from, in (0, 1].
        max_steps: tokens of the longest caption; None for as many as the head has positions.
        generator: source of the random numbers, on the device of the features.
        forbidden_ids: tokens that are never generated.

    Raises:
        InputError: for a nucleus or a number of steps out of range.
    """
    max_steps = head.max_caption_length if max_steps is None else max_steps
    if not 0.0 < nucleus <= 1.0:
        raise InputError(f"nucleus must be in (0, 1], not {nucleus}")
    if not 1 <= max_steps <= head.max_caption_length:
        raise InputError(f"max_steps must be from 1 to {head.max_caption_length}, not {max_steps}")
    batch = visual_features.shape[0]
    cache = KeyValueCache(head, visual_features)
    last = torch.full((batch, 1), SOS_ID, device=visual_features.device)
    drawn: list[Tensor] = []  # each (batch, 1)
    scores: list[Tensor] = []
    while len(drawn) < max_steps and not bool((last == EOS_ID).all()):
        log_probs = next_log_probs(cache.step(last), last, forbidden_ids).squeeze(1)  # (batch, vocab_size)
        last = draw_from_nucleus(log_probs.softmax(dim=-1), nucleus, generator)
        drawn.append(last)
        scores.append(log_probs.gather(1, last))
    return DecodedCaptions(torch.cat(drawn, dim=1), torch.cat(scores, dim=1).sum(dim=1))


def draw_from_nucleus(probs: Tensor, nucleus: float, generator: torch.Generator | None) -> Tensor:
    """One index a row, drawn from the smallest set of likeliest ones with at least ``nucleus`` in sum.

    Shape:
        probs ``(batch, vocab_size)``, rows sum to 1 -> ``(batch, 1)`` int64
    """
    ordered, indices = probs.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered  # mass of all likelier tokens
    kept = ordered.masked_fill(before >= nucleus, 0.0)
    return indices.gather(1, torch.multinomial(kept, 1, generator=generator))
