"""Bicaptioning: captions predicted in both directions (paper, section 3.1), the main task."""

from collections.abc import Mapping

from torch import Tensor, nn

from components.models.textual_head import TransformerTextualHead
from components.objectives.captioning import CaptioningObjective
from components.objectives.interface import ObjectiveOutput
from components.objectives.losses import Targets, token_cross_entropies


class BicaptioningObjective(CaptioningObjective):
    """Captioning plus captioning of the reversed caption by a second transformer.

    ``backward_textual`` shares visual projection, embedding and output layer with ``textual``, and
    its transformer starts as a copy.

    Batch keys: those of captioning, and ``noitpac_tokens`` ``(batch, length)`` int64: each row of
    ``caption_tokens`` reversed, then padded.
    """

    def __init__(self, visual: nn.Module, textual: TransformerTextualHead) -> None:
        super().__init__(visual, textual)
        self.backward_textual = textual.twin()

    def forward(self, batch: Mapping[str, Tensor]) -> ObjectiveOutput:
        """Loss of a batch, the sum of its parts ``captioning_forward`` and ``captioning_backward``.

        ``num_tokens`` counts the forward direction. The other has as many, but for a truncated
        caption that ends with an unknown token: one more.
        """
        directions = (batch["caption_tokens"], self.textual), (batch["noitpac_tokens"], self.backward_textual)
        targets = [Targets.of(tokens[:, 1:]) for tokens, _ in directions]
        memory = self.textual.project(self.visual(batch["image"]))
        decoded = [
            head.decode(memory, tokens[:, :-1], batch["caption_lengths"]) for tokens, head in directions
        ]
        (forward, num_tokens), (backward, _) = token_cross_entropies(self.textual.output, decoded, targets)
        parts = {"captioning_forward": forward.detach(), "captioning_backward": backward.detach()}
        return ObjectiveOutput(forward + backward, parts, num_tokens)
