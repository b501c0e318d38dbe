"""A picture of what zero-shot classification and retrieval make of some of the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.core.pictures import draw_texts, spread, write_picture
from components.data.image import Pixels, decode
from components.data.record import Record
from components.sources.readers.voc import VocSplit

FILE = "examples.png"
IMAGES = 8  # of each probe
LIKELIEST = 3  # classes named below an image
Scores = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Examples:
    """Images ``(height, width, 3)`` uint8 and what stands below each.

    They are the same in each run, whatever the scores, so that DVC's plots compare two runs.
    """

    pictures: Sequence[Pixels]
    texts: Sequence[str]


def of_classes(test: VocSplit, scores: Scores) -> Examples:
    """Name the likeliest classes of some images, and those that they show.

    Args:
        test: the images.
        scores: ``(num_images, num_classes)``, higher is likelier.
    """
    chosen = spread(len(test.image_paths), IMAGES)
    pictures = [decode(test.image_paths[index].read_bytes()) for index in chosen]
    texts = []
    for index in chosen:
        likeliest = [test.classes[number] for number in np.argsort(-scores[index])[:LIKELIEST]]
        shown = [test.classes[number] for number in np.flatnonzero(test.labels[index] == 1)]
        texts.append(f"zero-shot: {', '.join(likeliest)}\n(shows {', '.join(shown) or 'none of them'})")
    return Examples(pictures, texts)


def of_captions(records: Sequence[Record], scores: Scores, ranks: NDArray[np.int64]) -> Examples:
    """Quote the likeliest caption of some images, and where their own stands.

    Args:
        records: the images, whose first captions are the candidates.
        scores: ``(num_images, num_captions)`` in their order, higher is likelier.
        ranks: ``(num_images,)``, how many captions stand before an image's own.
    """
    chosen = spread(len(records), IMAGES)
    pictures = [decode(records[row].image) for row in chosen]
    texts = []
    for row in chosen:
        first = records[int(np.argmax(scores[row]))].captions[0]
        texts.append(f"retrieved: {first}\n(its own is number {ranks[row] + 1} of {len(records)})")
    return Examples(pictures, texts)


def draw(path: Path, examples: Sequence[Examples], reason: str) -> None:
    """Write a PNG of all examples, or of the reason why there are none."""
    pictures = [picture for part in examples for picture in part.pictures]
    texts = [text for part in examples for text in part.texts]
    if not pictures:
        pictures, texts = [np.full((1, 1, 3), 255, np.uint8)], [reason]
    write_picture(path, draw_texts(pictures, texts))
