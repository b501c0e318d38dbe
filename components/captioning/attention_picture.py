"""A picture of where a captioner looked for each word."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from components.atomic import writing
from components.captioning.attention import SeenWord
from components.captioning.captioner import Caption
from components.data.transforms import IMAGENET_MEAN, IMAGENET_STD

COLUMNS = 6
PANEL_INCHES = 1.9
TITLE_WIDTH = 24  # characters a column
COLOURS = "inferno"


def draw_attention(path: Path, image: Tensor, caption: Caption, words: Sequence[SeenWord]) -> None:
    """Write a PNG: the image as the model sees it, and one panel a word, brighter where it looked.

    All panels share one scale, from no attention to the highest of any word, in multiples of an even
    look at everything: 1 says that a place got its share and no more.

    Args:
        path: of the picture.
        image: ``(3, height, width)``, normalised.
        caption: what the words add up to.
        words: in order.
    """
    columns = min(COLUMNS, len(words) + 1)
    rows = math.ceil((len(words) + 1) / columns)
    figure = Figure(
        figsize=(columns * PANEL_INCHES + 0.9, rows * (PANEL_INCHES + 0.3) + 0.5),
        layout="constrained",
        dpi=120,
    )
    FigureCanvasAgg(figure)
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels:
        panel.axis("off")
    pixels = _pixels(image)
    gray = pixels.mean(axis=2)
    panels[0].imshow(pixels)
    highest = max((float(word.attention.max()) * word.attention.numel() for word in words), default=1.0)
    scale = Normalize(0.0, highest)
    for panel, word in zip(panels[1:], words, strict=False):
        panel.imshow(gray, cmap="gray", vmin=0.0, vmax=1.0)
        shown = panel.imshow(_spread(word.attention, gray.shape), cmap=COLOURS, norm=scale, alpha=0.6)
        panel.set_title(word.text, fontsize=11, parse_math=False)
    if words:
        bar = figure.colorbar(shown, ax=panels, fraction=0.025, pad=0.01)
        bar.set_label("attention, 1 = even", fontsize=9)
    title = "\n".join(textwrap.wrap(f"{caption.text} ({caption.log_probability:.1f})", TITLE_WIDTH * columns))
    figure.suptitle(title, fontsize=12, parse_math=False)  # a caption may hold a dollar sign
    with writing(path) as temporary:
        figure.savefig(temporary, format="png")


def _pixels(image: Tensor) -> NDArray:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (image.cpu() * std + mean).clamp(0.0, 1.0).permute(1, 2, 0).numpy()


def _spread(attention: Tensor, size: tuple[int, ...]) -> NDArray:
    """A feature map's cells over the image's pixels, smoothly, in multiples of an even look."""
    even = attention * attention.numel()
    return F.interpolate(even[None, None], size, mode="bilinear", align_corners=False)[0, 0].numpy()
