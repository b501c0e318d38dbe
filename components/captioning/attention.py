"""From attention by token to attention by word."""

from dataclasses import dataclass

import torch
from torch import Tensor

from components.captioning.captioner import Caption
from components.core.caption_tokens import EOS_ID
from components.text.tokenizer import CaptionTokenizer

WORD_START = "▁"  # SentencePiece's sign for the space before a word


@dataclass(frozen=True, slots=True)
class SeenWord:
    """A word and where the model looked when it wrote it: ``(height, width)``, sums to 1."""

    text: str
    attention: Tensor


def seen_words(caption: Caption, attention: Tensor, tokenizer: CaptionTokenizer) -> list[SeenWord]:
    """Group a caption's tokens into words; a word's map is the mean over its pieces.

    Args:
        caption: of an image.
        attention: ``(tokens, height, width)``, from `Captioner.attention`.
        tokenizer: the captioner's.
    """
    groups: list[list[int]] = []  # positions of each word's pieces
    for position, token in enumerate(caption.tokens):
        if token == EOS_ID:
            break
        if not groups or tokenizer.processor.id_to_piece(token).startswith(WORD_START):
            groups.append([])
        groups[-1].append(position)
    return [
        SeenWord(
            tokenizer.decode([caption.tokens[position] for position in group]),
            torch.stack([attention[position] for position in group]).mean(dim=0),
        )
        for group in groups
    ]
