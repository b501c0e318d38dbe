"""Parallel captioning (CapPa, arXiv 2306.07915): the captions of some images are predicted all at once.

The decoder is then shown [MASK] alone, at every position of the longest caption, and none is hidden from
another: all that it knows of the words comes from the image. A padding mask would tell it the caption's
length. The other images are captioned as usual. Otherwise than in CapPa all predicted tokens weigh the same,
as in VirTex, and the output layer stays tied to the embedding.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from components.core.caption_tokens import MASK_ID
from components.objectives.captioning import BicaptioningObjective, CaptioningObjective, Reading

CAPTION_KEYS = ("caption_tokens", "noitpac_tokens", "caption_lengths")


class ParallelCaptioningObjective(CaptioningObjective):
    """Captioning of some images, parallel captioning of the others.

    The loss is the mean over the tokens of all; its parts are what each kind of image adds to it.

    Batch keys: those of captioning, and ``parallel`` ``(batch,)`` int64: 1 where the caption is to be
    predicted all at once, else 0. Parts: captioning's, and ``captioning_parallel``.
    """

    def prepared(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a batch with ``targets``, and ``captioned_rows`` and ``parallel_rows``, which is which."""
        is_parallel = batch["parallel"].bool()
        rows = {
            "captioned_rows": (~is_parallel).nonzero().squeeze(1),
            "parallel_rows": is_parallel.nonzero().squeeze(1),
        }
        return super().prepared({**batch, **rows})

    def fixed_shape_methods(self) -> list[tuple[nn.Module, str]]:
        """Return nothing: how many images are of either kind differs from batch to batch."""
        return []

    def readings(self, batch: Mapping[str, Any]) -> list[Reading]:
        """Return the readings of captioning, for its images, and the parallel one of the others."""
        rows, others = batch["parallel_rows"], batch["captioned_rows"]
        captioned = super().readings({key: batch[key][others] for key in CAPTION_KEYS if key in batch})
        tokens = batch["caption_tokens"][rows, 1:]  # position i predicts what it does in captioning
        expected = F.pad(tokens, (0, self.textual.max_caption_length - 1 - tokens.shape[1]))
        shown = torch.full_like(expected, MASK_ID)
        parallel = Reading("captioning_parallel", self.textual, shown, expected, None, rows)
        lengths = batch["caption_lengths"][others] if len(others) else None  # torch has no mask of no rows
        return [*(reading._replace(lengths=lengths, images=others) for reading in captioned), parallel]

    def weights(self, counts: Sequence[int]) -> tuple[list[float], int]:
        """Return each kind's share of the tokens, and their number; captioning's own without others."""
        num_tokens = counts[0] + counts[-1]
        shares = [count / max(num_tokens, 1) for count in (counts[0], counts[-1])]
        return [*[shares[0]] * (len(counts) - 1), shares[1]], num_tokens


class ParallelBicaptioningObjective(ParallelCaptioningObjective, BicaptioningObjective):
    """The same beside bicaptioning; the parallel reading has no direction: ``textual`` does it once."""
