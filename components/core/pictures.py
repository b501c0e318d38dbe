"""Pictures with a text below each, in rows, as one picture."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from components.core.files import writing

Pixels = NDArray[np.uint8]
COLUMNS = 4
PANEL_INCHES = 2.6
LINE_CHARACTERS = 38
TEXT_LINES = 5


def spread(length: int, number: int) -> range:
    """Return at most ``number`` positions, evenly spread over ``length``."""
    return range(0, length, max(1, length // number))[:number]


def draw_texts(pictures: Sequence[Pixels], texts: Sequence[str]) -> Pixels:
    """Draw one picture of all, with a text below each; return pixels ``(height, width, 3)``."""
    rows = max(1, -(-len(pictures) // COLUMNS))
    size = (COLUMNS * PANEL_INCHES, rows * 1.35 * PANEL_INCHES)
    figure = Figure(figsize=size, layout="constrained", dpi=100)
    canvas = FigureCanvasAgg(figure)
    for index in range(rows * COLUMNS):
        axes = figure.add_subplot(rows, COLUMNS, index + 1)
        axes.set_axis_off()
        if index < len(pictures):
            axes.imshow(pictures[index])
            axes.set_title(_wrapped(texts[index]), fontsize=8, y=-0.05, va="top", parse_math=False)
    canvas.draw()
    pixels: Pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return pixels


def write_picture(path: Path, pixels: Pixels) -> None:
    """Write ``pixels`` as a PNG."""
    with writing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="png")


def _wrapped(text: str) -> str:
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, LINE_CHARACTERS)]
    if len(lines) > TEXT_LINES:
        lines = [*lines[: TEXT_LINES - 1], lines[TEXT_LINES - 1] + " …"]
    return "\n".join(lines)
