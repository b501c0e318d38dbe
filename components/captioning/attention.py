"""Where a captioner looked for each word: the weights of its cross-attention, by word, as a picture."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from components.captioning.captioner import Caption, Captioner
from components.core.caption_tokens import EOS_ID, SOS_ID
from components.core.files import writing
from components.data.normalisation import unnormalised
from components.models.textual_head import TransformerTextualHead
from components.text.tokenizer import CaptionTokenizer

WORD_START = "▁"  # SentencePiece's sign for the space before a word
MAX_COLUMNS = 6
MAX_OPACITY = 0.8
PANEL_INCHES = 1.9
TITLE_WIDTH = 24  # characters per column
COLOURS = "inferno"


@dataclass(frozen=True, slots=True)
class SeenWord:
    """A word and where the model looked when it wrote it: ``(height, width)``, sums to 1."""

    text: str
    attention: Tensor


def draw_captions_attention(
    captioner: Captioner, images: Tensor, captions: Sequence[Caption], pictures: Sequence[Path]
) -> None:
    """Draw where the captioner looked for each word of one caption per image.

    Args:
        captioner: that wrote the captions.
        images: ``(batch, 3, crop, crop)``, as ``captioner.transform`` gives them.
        captions: one per image.
        pictures: where to write a PNG of each.
    """
    maps = token_attention(captioner, images, captions)
    for picture, image, caption, attention in zip(pictures, images, captions, maps, strict=True):
        draw_attention(picture, image, caption, seen_words(caption, attention, captioner.tokenizer))


@torch.no_grad()
def token_attention(captioner: Captioner, images: Tensor, captions: Sequence[Caption]) -> list[Tensor]:
    """Return where the model looked for each token of one caption per image.

    Returns:
        A float32 tensor ``(tokens, height, width)`` per image, on the CPU; each map sums to 1.
    """
    length = max(len(caption.tokens) for caption in captions)
    rows = [[*caption.tokens, *[EOS_ID] * (length - len(caption.tokens))] for caption in captions]
    tokens = torch.tensor(rows, device=captioner.device)
    maps = cross_attention(captioner.objective.textual, captioner.features(images), tokens).float().cpu()
    return [row[: len(caption.tokens)] for row, caption in zip(maps, captions, strict=True)]


@torch.no_grad()
def cross_attention(head: TransformerTextualHead, visual_features: Tensor, tokens: Tensor) -> Tensor:
    """Return the last layer's attention to the feature map at the prediction of each token, mean over heads.

    One forward pass over captions that are already written; decoding itself keeps no weights. What
    stands after a caption's [EOS] does not change what comes before it.

    Shape:
        visual_features ``(batch, feature_size, height, width)``,
        tokens ``(batch, length)`` int64, captions without [SOS]
        -> ``(batch, length, height, width)``, each map sums to 1
    """
    batch, length = tokens.shape
    start = torch.full((batch, 1), SOS_ID, device=tokens.device)
    inputs = torch.cat([start, tokens[:, :-1]], dim=1)  # token i is predicted at position i
    attention = head.transformer.layers[-1].get_submodule("multihead_attn")
    weights: list[Tensor] = []

    def request(_module: nn.Module, arguments: Any, options: dict[str, Any]) -> Any:
        return arguments, options | {"need_weights": True, "average_attn_weights": True}

    def record(_module: nn.Module, _arguments: Any, result: tuple[Tensor, Tensor]) -> None:
        weights.append(result[1])

    handles = (
        attention.register_forward_pre_hook(request, with_kwargs=True),
        attention.register_forward_hook(record),
    )
    try:
        head(visual_features, inputs, torch.full((batch,), length, device=tokens.device))
    finally:
        for handle in handles:
            handle.remove()
    return weights[0].unflatten(-1, visual_features.shape[-2:])


def seen_words(caption: Caption, attention: Tensor, tokenizer: CaptionTokenizer) -> list[SeenWord]:
    """Group a caption's tokens into words; a word's map is the mean over its pieces.

    Args:
        caption: of an image.
        attention: ``(tokens, height, width)``, from `token_attention`.
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


def draw_attention(path: Path, image: Tensor, caption: Caption, words: Sequence[SeenWord]) -> None:
    """Write a PNG: the image as the model sees it, and one panel per word, coloured where it looked.

    All panels share one scale, in multiples of an even look at everything: a place at 1 got its share
    and no more, and stays uncoloured, as do places below. The scale ends at the highest of any word, and
    never below 2, so that a model that looks nowhere in particular colours nothing.

    Args:
        path: of the picture.
        image: ``(3, height, width)``, normalised.
        caption: what the words add up to.
        words: in order.
    """
    rows = math.ceil((len(words) + 1) / MAX_COLUMNS)
    columns = math.ceil((len(words) + 1) / rows)
    size = (columns * PANEL_INCHES + 0.9, rows * (PANEL_INCHES + 0.3) + 0.5)
    figure = Figure(figsize=size, layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels:
        panel.axis("off")
    pixels = unnormalised(image.cpu()).numpy()
    panels[0].imshow(pixels)
    maps = [_relative_to_even(word.attention, pixels.shape[:2]) for word in words]
    scale = Normalize(1.0, max([2.0, *(float(values.max()) for values in maps)]))
    for panel, word, values in zip(panels[1:], words, maps, strict=False):
        panel.imshow(pixels.mean(axis=2), cmap="gray", vmin=0.0, vmax=255.0)
        panel.imshow(values, cmap=COLOURS, norm=scale, alpha=MAX_OPACITY * scale(values).clip(0.0, 1.0))
        panel.set_title(word.text, fontsize=11, parse_math=False)
    bar = figure.colorbar(ScalarMappable(scale, COLOURS), ax=panels, fraction=0.025, pad=0.01)
    bar.set_label("attention, in multiples of an even look", fontsize=9)
    title = textwrap.wrap(f"{caption.text} ({caption.log_probability:.1f})", TITLE_WIDTH * columns)
    figure.suptitle("\n".join(title), fontsize=12, parse_math=False)  # a caption may hold a dollar sign
    with writing(path) as temporary:
        figure.savefig(temporary, format="png")


def _relative_to_even(attention: Tensor, size: tuple[int, ...]) -> NDArray[np.float32]:
    """Spread a feature map's cells smoothly over the image's pixels, in multiples of their mean."""
    share = attention / attention.mean()
    return F.interpolate(share[None, None], size, mode="bilinear", align_corners=False)[0, 0].numpy()
