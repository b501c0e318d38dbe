"""In how many captions each caption token stands: counted once, with the tokenizer whose ids they are of.

The objectives with `idf` weigh a token the more, the fewer captions have it: ln((N + 1) / (n + 1)) for n of
N captions, so that what stands in every caption, as [SOS] does, weighs nothing (SuperClass,
arXiv 2411.03313).
"""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.core.caption_tokens import SOS_ID
from components.core.errors import InputError
from components.core.files import write_csv
from components.text.tokenizer import CaptionTokenizer

COLUMNS = ("piece", "captions")
_AGAIN = "run the tokenize stage again"


def write_frequencies(
    path: Path, tokenizer: CaptionTokenizer, captions: Iterable[str], max_caption_length: int
) -> None:
    """Count captions as the model sees them, cut to ``max_caption_length`` tokens; write CSV by id."""
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    for caption in captions:
        counts[list(set(tokenizer.caption_tokens(caption, max_caption_length)))] += 1
    pieces = (tokenizer.processor.id_to_piece(index) for index in range(len(counts)))
    write_csv(path, COLUMNS, zip(pieces, counts.tolist(), strict=True))


def read_weights(path: Path, vocab_size: int) -> NDArray[np.float32]:
    """Return the weights of all tokens, ``(vocab_size,)``, from the frequencies at ``path``.

    Raises:
        InputError: if the file is missing or is not of a tokenizer of this size.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file, which this objective weighs tokens by; {_AGAIN}")
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    if len(rows) != vocab_size or not all(len(row) == 2 and row[1].isdecimal() for row in rows):
        raise InputError(f"{path}: expected the frequencies of {vocab_size} pieces, one per row; {_AGAIN}")
    return idf(np.array([int(row[1]) for row in rows]))


def idf(counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return weights from the captions that have each token; all captions have [SOS]."""
    return np.log((counts[SOS_ID] + 1) / (counts + 1)).astype(np.float32)
