"""Captions as many and as varied as wanted, so that anyone can measure without any.

Words of two to four syllables, whose frequencies fall as 1/rank (Zipf's law): a million captions use
some thirty thousand of them, about as many as the captions of COCO.
"""

from collections.abc import Iterator

import numpy as np

_CONSONANTS, _VOWELS = "bcdfghklmnprstvw", "aeiou"
_NUM_WORDS = 30_000
_BLOCK = 10_000  # captions drawn at once
_LENGTHS = (8, 14)  # words: at least, and fewer than


def draw_captions(count: int) -> Iterator[str]:
    """``count`` captions, normalised, the same every time."""
    rng = np.random.default_rng(11)
    words = _draw_words(rng)
    shares = 1 / np.arange(1, _NUM_WORDS + 1)
    shares /= shares.sum()
    for start in range(0, count, _BLOCK):
        lengths = rng.integers(*_LENGTHS, min(_BLOCK, count - start))
        chosen = words[rng.choice(_NUM_WORDS, lengths.sum(), p=shares)]
        for caption in np.split(chosen, np.cumsum(lengths)[:-1]):
            yield " ".join(caption)


def _draw_words(rng: np.random.Generator) -> np.ndarray:
    syllables = np.array([first + second for first in _CONSONANTS for second in _VOWELS])
    words: dict[str, None] = {}
    while len(words) < _NUM_WORDS:
        words["".join(rng.choice(syllables, int(rng.integers(2, 5))))] = None
    return np.array(list(words))
