"""What a vocabulary makes of captions: lengths, truncation, unknown pieces, and a sample to read."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.core.caption_tokens import UNK_ID
from components.text.tokenizer import CaptionTokenizer, normalise

BOUNDARY_TOKENS = 2  # [SOS] and [EOS]


@dataclass(frozen=True)
class CaptionFigures:
    """Figures of one split.

    Attributes:
        metrics: numbers for metrics.json; lengths in caption tokens, [SOS] and [EOS] included, uncut.
        lengths: ``(caption tokens, captions)`` from the shortest to the longest, gaps as 0.
    """

    metrics: dict[str, float]
    lengths: list[tuple[int, int]]


def caption_figures(
    tokenizer: CaptionTokenizer, captions: Sequence[str], max_caption_length: int
) -> CaptionFigures:
    """Measure normalised captions (at least one) under a tokenizer."""
    encoded = [tokenizer.encode(caption) for caption in captions]
    lengths = np.array([len(pieces) + BOUNDARY_TOKENS for pieces in encoded])
    num_pieces = sum(map(len, encoded))
    num_unknown = sum(pieces.count(UNK_ID) for pieces in encoded)
    counts = Counter(lengths.tolist())
    return CaptionFigures(
        metrics={
            "captions": len(encoded),
            "tokens_mean": float(lengths.mean()),
            "tokens_p50": float(np.percentile(lengths, 50)),
            "tokens_p95": float(np.percentile(lengths, 95)),
            "tokens_max": int(lengths.max()),
            "truncated_share": float((lengths > max_caption_length).mean()),
            "unknown_rate": num_unknown / max(num_pieces, 1),
        },
        lengths=[(length, counts[length]) for length in range(min(counts), max(counts) + 1)],
    )


def readable_sample(
    tokenizer: CaptionTokenizer, captions: Sequence[str], max_caption_length: int, num_captions: int = 40
) -> str:
    """Return captions as written, spread evenly over all, each with the pieces the model will see."""
    step = max(1, len(captions) // num_captions)
    blocks = []
    for caption in captions[::step][:num_captions]:
        pieces = ["[SOS]", *tokenizer.pieces(normalise(caption)), "[EOS]"]
        kept, cut = pieces[:max_caption_length], pieces[max_caption_length:]
        tail = f"   cut off: {' '.join(cut)}" if cut else ""
        blocks.append(f"{caption.strip()}\n  {' '.join(kept)}{tail}\n")
    return "\n".join(blocks)
