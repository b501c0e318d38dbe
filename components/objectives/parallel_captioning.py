"""Parallel captioning (CapPa, arXiv 2306.07915): the captions of some images are predicted all at once.

The decoder is then shown [MASK] alone, at every position of the longest caption, and none is hidden from
another: all that it knows of the words comes from the image. A padding mask would tell it the caption's
length. The other images are captioned as ever. Otherwise than in CapPa all predicted tokens weigh the same,
as in VirTex, and the output layer stays tied to the embedding.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from components.core.caption_tokens import MASK_ID
from components.objectives.captioning import BicaptioningObjective, CaptioningObjective, Reading


class ParallelCaptioningObjective(CaptioningObjective):
    """Captioning of some images, parallel captioning of the others.

    The loss is the mean over the tokens of all; its parts are what each kind of image adds to it.

    Batch keys: those of captioning, and ``parallel`` ``(batch,)`` int64: 1 where the caption is to be
    predicted all at once, else 0. Parts: captioning's, and ``captioning_parallel``.
    """

    def readings(self, batch: Mapping[str, Tensor]) -> list[Reading]:
        """Return the readings of captioning, for its images, and the parallel one of the others."""
        is_parallel = batch["parallel"].bool()
        rows, others = is_parallel.nonzero().squeeze(1), (~is_parallel).nonzero().squeeze(1)
        captioned = super().readings({key: value[others] for key, value in batch.items() if key != "image"})
        tokens = batch["caption_tokens"][rows, 1:]  # position i predicts what it does in captioning
        expected = F.pad(tokens, (0, self.textual.max_caption_length - 1 - tokens.shape[1]))
        shown = torch.full_like(expected, MASK_ID)
        parallel = Reading("captioning_parallel", self.textual, shown, expected, None, rows)
        lengths = batch["caption_lengths"][others] if len(others) else None  # torch has no mask of no rows
        return [*(reading._replace(lengths=lengths, images=others) for reading in captioned), parallel]

    def weights(self, counts: Sequence[int]) -> tuple[list[float], int]:
        """Return each kind's share of the tokens, and their number; as ever without parallel ones."""
        num_tokens = counts[0] + counts[-1]
        shares = [count / max(num_tokens, 1) for count in (counts[0], counts[-1])]
        return [*[shares[0]] * (len(counts) - 1), shares[1]], num_tokens


class ParallelBicaptioningObjective(ParallelCaptioningObjective, BicaptioningObjective):
    """The same beside bicaptioning; the parallel reading has no direction: ``textual`` does it once."""
