"""What each pretraining task is taught with an image: the keys of a batch besides the image.

========================  ======================================================================
bicaptioning              ``caption_tokens``, ``noitpac_tokens`` (the caption read backwards, reversed
                          before it is padded), ``caption_lengths``
captioning                ``caption_tokens``, ``caption_lengths``
masked_lm                 ``masked_tokens``, ``masked_labels``, ``caption_lengths``
token_classification      ``caption_tokens``
multilabel_classification ``labels``
========================  ======================================================================

Tokens include [SOS] and [EOS]; lengths count the tokens before the padding.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from components.data.batch import Targets
from components.data.masking import mask_tokens

LABEL_TASKS = ("multilabel_classification",)  # taught by labels and not by captions


class Tokenizer(Protocol):
    """What targets ask of a tokenizer; it travels to worker processes, so it must pickle."""

    @property
    def vocab_size(self) -> int:
        """Number of token ids, the special ones included."""
        ...

    def caption_tokens(self, text: str, max_length: int) -> list[int]:
        """[SOS], the caption's pieces and [EOS], cut to ``max_length``."""
        ...


class MakeTargets(Protocol):
    """Targets of one image; a random choice comes from ``rng`` alone. It must pickle."""

    def __call__(self, caption: str, labels: Sequence[int], rng: np.random.Generator) -> Targets:
        """Targets from the caption that fits the image as shown, and from its object labels."""
        ...


class CaptionTargets:
    """Caption tokens, with their length and the reversed caption where the task wants them."""

    def __init__(self, tokenizer: Tokenizer, max_length: int, *, length: bool, reverse: bool) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.length = length
        self.reverse = reverse

    def __call__(self, caption: str, labels: Sequence[int], rng: np.random.Generator) -> Targets:
        tokens = self.tokenizer.caption_tokens(caption, self.max_length)
        targets: Targets = {"caption_tokens": tokens}
        if self.reverse:
            targets["noitpac_tokens"] = tokens[::-1]
        if self.length:
            targets["caption_lengths"] = len(tokens)
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


class LabelTargets:
    """Object labels."""

    def __call__(self, caption: str, labels: Sequence[int], rng: np.random.Generator) -> Targets:
        return {"labels": list(labels)}


def make_targets(objective: str, tokenizer: Tokenizer, max_caption_length: int) -> MakeTargets:
    """The targets of the objective that has this name in params.yaml."""
    match objective:
        case "bicaptioning":
            return CaptionTargets(tokenizer, max_caption_length, length=True, reverse=True)
        case "captioning":
            return CaptionTargets(tokenizer, max_caption_length, length=True, reverse=False)
        case "token_classification":
            return CaptionTargets(tokenizer, max_caption_length, length=False, reverse=False)
        case "masked_lm":
            return MaskedTargets(tokenizer, max_caption_length)
        case "multilabel_classification":
            return LabelTargets()
    raise ValueError(f"no targets for the objective {objective!r}")
