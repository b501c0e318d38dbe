"""Random generators by what they are for: each depends on a seed, its stream and a number alone."""

import numpy as np

# SeedSequence keeps streams with different keys apart.
ORDER_STREAM = 0  # the images of an epoch, by epoch
VISIT_STREAM = 1  # caption, crop, flip, jitter and masks of a training visit, by visit
VALIDATION_STREAM = 2  # masks of a validation image, by index
SUBSET_IMAGES_STREAM = 3  # which images a run learns from
SUBSET_CAPTIONS_STREAM = 4  # which of its captions, by index of the image


def generator(seed: int, stream: int, number: int = 0) -> np.random.Generator:
    """A new generator at its start."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, number)))
