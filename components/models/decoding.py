"""Beam search, the public code's (v1.2) but with [SOS] kept at position 0, and nucleus sampling.

Decoding is incremental: one token per step, keys and values of earlier steps kept while beams fork and end.
Tests hold it equal to the textual head's full forward.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from components.core.caption_tokens import EOS_ID, NEVER_GENERATED, SOS_ID
from components.core.errors import InputError
from components.models.decoder_layer import DecoderLayer, KeysValues, linear
from components.models.textual_head import TransformerTextualHead


class DecodedCaptions(NamedTuple):
    """Captions without their [SOS]; after an [EOS] a row goes on with [EOS].

    Attributes:
        tokens: ``(batch, length)`` int64, or ``(batch, beams, length)`` for all beams, best first.
        log_probs: ``(batch,)`` or ``(batch, beams)``, sum over the caption's tokens.
    """

    tokens: Tensor
    log_probs: Tensor


@torch.no_grad()
def beam_search(
    head: TransformerTextualHead,
    visual_features: Tensor,
    beam_size: int = 5,
    max_steps: int | None = None,
    candidates_per_beam: int = 2,
    forbidden_ids: tuple[int, ...] = NEVER_GENERATED,
    all_beams: bool = False,
) -> DecodedCaptions:
    """Find likely captions of all images of a batch at once.

    A token may not follow itself. A caption that has ended goes on with [EOS] at no cost. As log
    probabilities only fall, the search stops once the best caption of every image has ended
    (with ``all_beams``: once all captions have).

    Args:
        head: a causal textual head.
        visual_features: ``(batch, feature_size, height, width)``.
        beam_size: captions kept per image.
        max_steps: tokens of the longest caption; None for as many as the head has positions.
        candidates_per_beam: continuations considered for each kept caption.
        forbidden_ids: tokens that are never generated.
        all_beams: return every kept caption, not the best alone.

    Raises:
        InputError: if the search is larger than the head's positions or vocabulary allow.
    """
    max_steps = head.max_caption_length if max_steps is None else max_steps
    _check_size(head, beam_size, max_steps, candidates_per_beam, forbidden_ids)
    batch = visual_features.shape[0]
    cache = BeamCache(head, visual_features)
    start = torch.full((batch, 1), SOS_ID, device=visual_features.device)
    first = next_log_probs(cache.step(start), start, forbidden_ids)
    scores, last = first.squeeze(1).topk(beam_size)  # both (batch, beams)
    cache.select(torch.zeros_like(last))
    tokens = last.unsqueeze(-1)  # (batch, beams, length)

    for _ in range(max_steps - 1):
        if bool(((last if all_beams else last[:, :1]) == EOS_ID).all()):
            break
        allowed = _allowed_log_probs(cache.step(last), last, forbidden_ids)  # (batch, beams, vocab_size)
        gains, choices = _after_end(last, *allowed.topk(candidates_per_beam))
        scores, best = (scores.unsqueeze(-1) + gains).flatten(1).topk(beam_size)
        parents = best // candidates_per_beam  # (batch, beams), which old beam each new one extends
        last = choices.flatten(1).gather(1, best)
        tokens = torch.cat([_take_beams(tokens, parents), last.unsqueeze(-1)], dim=-1)
        cache.select(parents)

    if all_beams:
        return DecodedCaptions(tokens, scores)
    return DecodedCaptions(tokens[:, 0], scores[:, 0])


@torch.no_grad()
def nucleus_sample(
    head: TransformerTextualHead,
    visual_features: Tensor,
    nucleus: float = 0.9,
    max_steps: int | None = None,
    generator: torch.Generator | None = None,
    forbidden_ids: tuple[int, ...] = NEVER_GENERATED,
) -> DecodedCaptions:
    """Draw one caption per image, each token from the likeliest ones that together reach ``nucleus``.

    Source: arXiv 1904.09751.

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
    cache = BeamCache(head, visual_features)
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
    """Draw one index per row from the smallest set of likeliest ones with at least ``nucleus`` in sum.

    Shape:
        probs ``(batch, vocab_size)``, rows sum to 1 -> ``(batch, 1)`` int64
    """
    ordered, indices = probs.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered  # mass of all likelier tokens
    kept = ordered.masked_fill(before >= nucleus, 0.0)
    return indices.gather(1, torch.multinomial(kept, 1, generator=generator))


def next_log_probs(logits: Tensor, last: Tensor, forbidden_ids: tuple[int, ...]) -> Tensor:
    """Return log probabilities of each next token under the rules of decoding.

    Forbidden tokens and the last one have minus infinity; after [EOS] only [EOS] is possible, with 0.
    The others keep the model's own value: nothing is normalised anew.

    Shape:
        logits ``(..., vocab_size)``, last ``(...)`` int64 -> ``(..., vocab_size)``, float32 or wider
    """
    log_probs = _allowed_log_probs(logits, last, forbidden_ids)
    only_end = log_probs.new_full((log_probs.shape[-1],), -torch.inf)
    only_end[EOS_ID] = 0.0
    return torch.where((last == EOS_ID).unsqueeze(-1), only_end, log_probs)


def _allowed_log_probs(logits: Tensor, last: Tensor, forbidden_ids: tuple[int, ...]) -> Tensor:
    """Return ``next_log_probs`` without the rule of what comes after [EOS]."""
    log_probs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
    for token in forbidden_ids:  # a fill each: indexing by a list would copy it to the device every step
        log_probs[..., token] = -torch.inf
    return log_probs.scatter_(-1, last.unsqueeze(-1), -torch.inf)


def _after_end(last: Tensor, gains: Tensor, choices: Tensor) -> tuple[Tensor, Tensor]:
    """Apply that rule to the best continuations alone, which is cheaper than to rows of the vocabulary.

    Shape:
        last ``(batch, beams)``, the others ``(batch, beams, candidates)``
    """
    has_ended = (last == EOS_ID).unsqueeze(-1)
    only_end = torch.full_like(gains, -torch.inf)
    only_end[..., 0] = 0.0
    return torch.where(has_ended, only_end, gains), torch.where(has_ended, EOS_ID, choices)


def _take_beams(tokens: Tensor, beams: Tensor) -> Tensor:
    """Gather ``(batch, beams, length)`` by ``(batch, new_beams)`` into ``(batch, new_beams, length)``."""
    return tokens.gather(1, beams.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def _check_size(
    head: TransformerTextualHead,
    beam_size: int,
    max_steps: int,
    candidates_per_beam: int,
    forbidden_ids: tuple[int, ...],
) -> None:
    if not 1 <= max_steps <= head.max_caption_length:
        raise InputError(f"max_steps must be from 1 to {head.max_caption_length}, not {max_steps}")
    if beam_size < 1 or candidates_per_beam < 1:
        raise InputError(
            f"beam_size and candidates_per_beam must be positive: {beam_size}, {candidates_per_beam}"
        )
    possible = head.output.out_features - len(forbidden_ids)
    if max(beam_size, candidates_per_beam) >= possible:
        raise InputError(
            f"beam_size {beam_size} is too large: the vocabulary has {possible} tokens to choose from"
        )


class BeamCache:
    """State of a batch of captions that grow together, ``beams`` of them per image.

    The projected feature map is held once per image, whatever the number of beams: beams are
    further queries to the same keys. Dropout is left out.

    Attributes:
        length: tokens fed so far; the next one stands at this position.
    """

    def __init__(self, head: TransformerTextualHead, visual_features: Tensor) -> None:
        """Start with one empty caption per image.

        Args:
            head: a causal textual head.
            visual_features: ``(batch, feature_size, height, width)``.

        Raises:
            ValueError: for a head that is not causal.
        """
        if not head.causal:
            raise ValueError("only a causal textual head can decode token by token")
        self.head = head
        self.length = 0
        self._layers: list[DecoderLayer] = list(head.transformer.layers)
        self._images = head.images(head.project(visual_features))
        self._past = BeamPaths(len(self._layers))

    def step(self, tokens: Tensor) -> Tensor:
        """Feed one token per caption and predict the next.

        Shape:
            tokens ``(batch, beams)`` int64 -> logits ``(batch, beams, vocab_size)``

        Raises:
            ValueError: when the head has no position left.
        """
        if self.length >= self.head.max_caption_length:
            raise ValueError(f"the textual head has only {self.head.max_caption_length} positions")
        batch, beams = tokens.shape
        embedded = self.head.embedding(tokens.reshape(-1, 1), first_position=self.length)
        x = embedded.view(batch, beams, -1)
        past = self._past
        past.grow(tokens)
        for index, (layer, image) in enumerate(zip(self._layers, self._images, strict=True)):
            x = layer.step(x, functools.partial(past.keep, index), past.mask, image)
        if self.head.transformer.norm is not None:
            x = self.head.transformer.norm(x)
        self.length += 1
        return linear(x, self.head.output.weight, self.head.output.bias).contiguous()

    def select(self, beams: Tensor) -> None:
        """Continue with these old beams of each image, by index: ``(batch, new_beams)`` int64."""
        self._past.select(beams)


class BeamPaths:
    """Keys and values of captions that fork: nothing is moved when beams fork or end.

    A caption's past is a path through the tokens of all beams of its image. A beam search that copied the
    pasts of the beams it goes on with would move all of them at each step; here a table says which tokens
    are on whose path, and attention is masked by it. A slot is a token of one beam at one step; there are
    ``slots`` of them per image so far.

    Attributes:
        mask: ``(batch, 1, beams, slots)`` bool, true where a slot is on the path of a beam.
    """

    def __init__(self, num_layers: int) -> None:
        self.mask = torch.empty(0)
        self._paths = torch.empty(0)  # (batch, beams, length) int64, slots
        self._slots = 0
        self._kept: list[KeysValues | None] = [None] * num_layers

    def grow(self, tokens: Tensor) -> None:
        """Begin a step with ``tokens`` ``(batch, beams)``, each the next of the beam at its place."""
        batch, beams = tokens.shape
        new = torch.arange(self._slots, self._slots + beams, device=tokens.device)
        new = new.expand(batch, -1).unsqueeze(-1)
        self._paths = torch.cat([self._paths, new], dim=-1) if self._slots else new
        self._slots += beams
        mask = torch.zeros(batch, beams, self._slots, dtype=torch.bool, device=tokens.device)
        self.mask = mask.scatter_(-1, self._paths, True).unsqueeze(1)

    def select(self, beams: Tensor) -> None:
        """Continue with these old beams of each image: ``(batch, new_beams)`` int64."""
        self._paths = self._paths.gather(1, beams.unsqueeze(-1).expand(-1, -1, self._paths.shape[-1]))

    def keep(self, layer: int, key: Tensor, value: Tensor) -> KeysValues:
        """Keep the step's keys and values, and return those of all slots.

        Shape:
            ``(batch, heads, beams, head_size)`` each -> ``(batch, heads, slots, head_size)`` each
        """
        kept = self._kept[layer]
        if kept is None:
            kept = self._kept[layer] = self._room_for(key), self._room_for(value)
        elif kept[0].shape[2] < self._slots:
            kept = self._kept[layer] = self._room_for(key, kept[0]), self._room_for(value, kept[1])
        for store, new in zip(kept, (key, value), strict=True):
            store[:, :, self._slots - new.shape[2] : self._slots] = new
        return kept[0][:, :, : self._slots], kept[1][:, :, : self._slots]

    def _room_for(self, new: Tensor, store: Tensor | None = None) -> Tensor:
        """Make room for twice the slots in use, so that what is in ``store`` is copied seldom."""
        batch, heads, _, size = new.shape
        room = new.new_empty(batch, heads, 2 * self._slots, size)
        if store is not None:
            room[:, :, : store.shape[2]] = store
        return room
