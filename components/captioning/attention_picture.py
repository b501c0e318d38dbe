"""A picture of where a captioner looked for each word."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from components.captioning.attention import SeenWord
from components.captioning.captioner import Caption
from components.core.files import writing
from components.core.normalisation import IMAGENET_MEAN, IMAGENET_STD

MOST_COLUMNS = 6
MOST_OPAQUE = 0.8
PANEL_INCHES = 1.9
TITLE_WIDTH = 24  # characters a column
COLOURS = "inferno"


def draw_attention(path: Path, image: Tensor, caption: Caption, words: Sequence[SeenWord]) -> None:
    """Write a PNG: the image as the model sees it, and one panel a word, coloured where it looked.

    All panels share one scale, in multiples of an even look at everything: a place at 1 got its share
    and no more, and stays uncoloured, as do places below. The scale ends at the highest of any word, and
    never below 2, so that a model that looks nowhere in particular colours nothing.

    Args:
        path: of the picture.
        image: ``(3, height, width)``, normalised.
        caption: what the words add up to.
        words: in order.
    """
    rows = math.ceil((len(words) + 1) / MOST_COLUMNS)
    columns = math.ceil((len(words) + 1) / rows)
    size = (columns * PANEL_INCHES + 0.9, rows * (PANEL_INCHES + 0.3) + 0.5)
    figure = Figure(figsize=size, layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels:
        panel.axis("off")
    pixels = _pixels(image)
    panels[0].imshow(pixels)
    maps = [_even_is_one(word.attention, pixels.shape[:2]) for word in words]
    scale = Normalize(1.0, max([2.0, *(float(values.max()) for values in maps)]))
    for panel, word, values in zip(panels[1:], words, maps, strict=False):
        panel.imshow(pixels.mean(axis=2), cmap="gray", vmin=0.0, vmax=1.0)
        panel.imshow(values, cmap=COLOURS, norm=scale, alpha=MOST_OPAQUE * scale(values).clip(0.0, 1.0))
        panel.set_title(word.text, fontsize=11, parse_math=False)
    bar = figure.colorbar(ScalarMappable(scale, COLOURS), ax=panels, fraction=0.025, pad=0.01)
    bar.set_label("attention, in multiples of an even look", fontsize=9)
    title = textwrap.wrap(f"{caption.text} ({caption.log_probability:.1f})", TITLE_WIDTH * columns)
    figure.suptitle("\n".join(title), fontsize=12, parse_math=False)  # a caption may hold a dollar sign
    with writing(path) as temporary:
        figure.savefig(temporary, format="png")


def _pixels(image: Tensor) -> NDArray[np.float32]:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (image.cpu() * std + mean).clamp(0.0, 1.0).permute(1, 2, 0).numpy()


def _even_is_one(attention: Tensor, size: tuple[int, ...]) -> NDArray[np.float32]:
    """A feature map's cells spread smoothly over the image's pixels, in multiples of their mean."""
    share = attention / attention.mean()
    return F.interpolate(share[None, None], size, mode="bilinear", align_corners=False)[0, 0].numpy()
