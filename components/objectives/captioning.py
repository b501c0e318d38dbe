"""Captioning, forward only: predict each token from those before it and the image."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from components.models.decoding import DecodedCaptions, beam_search, nucleus_sample
from components.models.textual_head import TransformerTextualHead
from components.objectives.interface import Objective, ObjectiveOutput
from components.objectives.losses import Targets, token_cross_entropies


class CaptioningObjective(Objective):
    """Mean cross entropy of the caption's tokens after [SOS].

    Batch keys: ``image`` ``(batch, 3, height, width)``, ``caption_tokens`` ``(batch, length)``
    int64 padded with 0, ``caption_lengths`` ``(batch,)`` int64.
    """

    def __init__(self, visual: nn.Module, textual: TransformerTextualHead) -> None:
        super().__init__()
        self.visual = visual
        self.textual = textual

    def forward(self, batch: Mapping[str, Tensor]) -> ObjectiveOutput:
        """Loss of a batch; its only part is ``captioning_forward``."""
        tokens = batch["caption_tokens"]  # each predicts the next; the last column is a target only
        targets = Targets.of(tokens[:, 1:])
        memory = self.textual.project(self.visual(batch["image"]))
        decoded = self.textual.decode(memory, tokens[:, :-1], batch["caption_lengths"])
        [(loss, num_tokens)] = token_cross_entropies(self.textual.output, [decoded], [targets])
        return ObjectiveOutput(loss, {"captioning_forward": loss.detach()}, num_tokens)

    def caption(self, images: Tensor, beam_size: int = 5, max_steps: int | None = None) -> DecodedCaptions:
        """Likeliest captions of images ``(batch, 3, height, width)``, by beam search.

        Switch to ``eval()`` first: the backbone's batch normalisation follows the module's mode.

        Returns:
            tokens ``(batch, length)`` without [SOS], with trailing [EOS], and log probabilities ``(batch,)``.
        """
        with torch.no_grad():
            features = self.visual(images)
        return beam_search(self.textual, features, beam_size, max_steps)

    def sample_caption(
        self,
        images: Tensor,
        nucleus: float = 0.9,
        max_steps: int | None = None,
        generator: torch.Generator | None = None,
    ) -> DecodedCaptions:
        """Random captions of images, by nucleus sampling; shapes as those of ``caption``."""
        with torch.no_grad():
            features = self.visual(images)
        return nucleus_sample(self.textual, features, nucleus, max_steps, generator)
