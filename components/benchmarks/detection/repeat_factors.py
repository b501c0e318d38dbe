"""Repeat-factor sampling: images with rare categories are visited more often (LVIS, arXiv 1908.03195)."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from components.benchmarks.detection.data import DetectionImage


def repeat_factors(images: Sequence[DetectionImage], threshold: float) -> NDArray[np.float64]:
    """How often to visit each image in an epoch, on average; at least 1.

    With ``f`` the share of the images that show a category, the category's factor is
    ``max(1, sqrt(threshold / f))``, and an image's is the largest of its categories.

    Args:
        images: all training images.
        threshold: share of the images below which a category counts as rare; 0 gives 1 everywhere.
    """
    present = [{item.label for item in image.objects if not item.is_crowd} for image in images]
    counts = Counter(label for labels in present for label in labels)
    factors = {label: max(1.0, math.sqrt(threshold * len(images) / count)) for label, count in counts.items()}
    return np.array([max((factors[label] for label in labels), default=1.0) for labels in present])


def epoch_order(factors: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Image indices of one epoch in random order; the fraction of a factor is an extra visit by chance."""
    whole = np.floor(factors).astype(np.int64)
    repeats = whole + (rng.random(len(factors)) < factors - whole)
    return rng.permutation(np.repeat(np.arange(len(factors)), repeats))
