"""Retrieval by likelihood: which of all images a caption was written for, and which caption an image has.

Of each image the first caption is used. Images are ranked by the log probability that the captioner gives the
caption on them. Captions are ranked by how much more probable the image makes them than all images do on
average, since a short and common sentence is probable everywhere. Figures: recall at 1, 5 and 10 in percent.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

DEPTHS = (1, 5, 10)


def ranks(sums: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.int64]]:
    """Return how many candidates stand before the right one, of equals half, ``(num_images,)``.

    Args:
        sums: log probabilities ``(num_images, num_captions)`` by direction, captions in the images' order.

    Returns:
        ``to_image``, for each caption, and ``to_text``, for each image.
    """
    scores = np.sum([values.astype(np.float64) for values in sums.values()], axis=0)
    raised = scores - (logsumexp(scores, axis=0) - np.log(len(scores)))
    return {"to_image": _ranks(scores.T), "to_text": _ranks(raised)}


def recalls(found: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.floating]]:
    """Return 100 where the right one is among the first few, else 0, by name such as ``to_text_R5``."""
    return {f"{name}_R{depth}": 100.0 * (own < depth) for name, own in found.items() for depth in DEPTHS}


def _ranks(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rank the diagonal of ``(num_queries, num_candidates)`` within its row, from 0."""
    right = np.diagonal(scores)[:, None]
    return (scores > right).sum(axis=1) + ((scores == right).sum(axis=1) - 1) // 2
