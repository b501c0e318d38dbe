"""What each pretraining task is taught with an image: the keys of a batch besides the image.

========================  ======================================================================
bicaptioning              ``caption_tokens``, ``noitpac_tokens`` (the caption read backwards, reversed
                          before it is padded), ``caption_lengths``
captioning, contrastive   ``caption_tokens``, ``caption_lengths``
and contrastive_
classification
masked_lm                 ``masked_tokens``, ``masked_labels``, ``caption_lengths``
parallel_captioning and   those of captioning or bicaptioning; ``parallel``, 1 where the caption is to be
parallel_bicaptioning     predicted all at once, else 0
token_classification and  ``caption_tokens``
idf_token_classification
multilabel_classification ``labels``
========================  ======================================================================

Tokens include [SOS] and [EOS]; lengths count the tokens before the padding.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from components.core.caption_tokens import MASK_ID, PAD_ID, SPECIAL_IDS
from components.data.batch import Targets

LABEL_TASKS = ("multilabel_classification",)  # taught by labels and not by captions
CHOSEN_PERCENT = 15
MASKED, RANDOM = 0.85, 0.10  # of the tokens that masked_lm chooses; the rest stay as they are


class Tokenizer(Protocol):
    """What targets ask of a tokenizer; it travels to worker processes, so it must pickle."""

    @property
    def vocab_size(self) -> int:
        """Number of token ids, the special ones included."""
        ...

    def caption_tokens(self, text: str, max_length: int) -> list[int]:
        """Return [SOS], the caption's pieces and [EOS], cut to ``max_length``."""
        ...


class MakeTargets(Protocol):
    """Targets of one image; a random choice comes from ``rng`` alone. It must pickle."""

    def __call__(self, caption: str, labels: Sequence[int], rng: np.random.Generator) -> Targets:
        """Return targets from the caption that fits the image as shown, and from its object labels."""
        ...


class CaptionTargets:
    """Caption tokens, with what else the task wants; each caption is drawn to be a parallel one or not."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_length: int,
        *,
        length: bool = True,
        reverse: bool = False,
        parallel_share: float | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.length = length
        self.reverse = reverse
        self.parallel_share = parallel_share

    def __call__(self, caption: str, labels: Sequence[int], rng: np.random.Generator) -> Targets:
        tokens = self.tokenizer.caption_tokens(caption, self.max_length)
        targets: Targets = {"caption_tokens": tokens}
        if self.reverse:
            targets["noitpac_tokens"] = tokens[::-1]
        if self.length:
            targets["caption_lengths"] = len(tokens)
        if self.parallel_share is not None:
            targets["parallel"] = int(rng.random() < self.parallel_share)
        return targets


class MaskedTargets:
    """Caption tokens of which some are hidden."""

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length

    def __call__(self, caption: str, labels: Sequence[int], rng: np.random.Generator) -> Targets:
        tokens = self.tokenizer.caption_tokens(caption, self.max_length)
        shown, hidden = mask_tokens(tokens, self.tokenizer.vocab_size, rng)
        return {"masked_tokens": shown, "masked_labels": hidden, "caption_lengths": len(tokens)}


def mask_tokens(
    tokens: Sequence[int], vocab_size: int, rng: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Hide 15 % of a caption's tokens, rounded up, never the first and the last one.

    Of those chosen 85 % become [MASK], 10 % another token (never a special one), 5 % stay; a single one
    becomes [MASK]. As in the paper's public code only what became [MASK] is to be predicted.

    Returns:
        The tokens to show, and labels: the true token where there is [MASK] now, 0 elsewhere.
    """
    shown, labels = list(tokens), [PAD_ID] * len(tokens)
    num_inner = max(0, len(tokens) - 2)
    num_chosen = -(-CHOSEN_PERCENT * num_inner // 100)
    chosen = 1 + rng.permutation(num_inner)[:num_chosen]
    for position, fate in zip(chosen.tolist(), rng.random(num_chosen).tolist(), strict=True):
        if num_chosen == 1 or fate < MASKED:
            shown[position], labels[position] = MASK_ID, tokens[position]
        elif fate < MASKED + RANDOM:
            shown[position] = int(rng.integers(len(SPECIAL_IDS), vocab_size))
    return shown, labels


class LabelTargets:
    """Object labels."""

    def __call__(self, caption: str, labels: Sequence[int], rng: np.random.Generator) -> Targets:
        return {"labels": list(labels)}


def make_targets(
    objective: str, tokenizer: Tokenizer, max_caption_length: int, parallel_share: float = 0.0
) -> MakeTargets:
    """Return the targets of the objective that has this name in params.yaml."""
    match objective:
        case "bicaptioning" | "captioning" | "parallel_captioning" | "parallel_bicaptioning":
            return CaptionTargets(
                tokenizer,
                max_caption_length,
                reverse=objective.endswith("bicaptioning"),
                parallel_share=parallel_share if objective.startswith("parallel") else None,
            )
        case "contrastive" | "contrastive_classification":
            return CaptionTargets(tokenizer, max_caption_length)
        case "token_classification" | "idf_token_classification":
            return CaptionTargets(tokenizer, max_caption_length, length=False)
        case "masked_lm":
            return MaskedTargets(tokenizer, max_caption_length)
        case "multilabel_classification":
            return LabelTargets()
    raise ValueError(f"no targets for the objective {objective!r}")
