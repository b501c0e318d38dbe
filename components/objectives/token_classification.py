"""Token classification: the caption as a bag of tokens (an ablation of the paper)."""

from collections.abc import Mapping

from torch import Tensor, nn

from components.core.caption_tokens import SPECIAL_IDS
from components.models.textual_head import LinearTextualHead
from components.objectives.interface import Objective, ObjectiveOutput
from components.objectives.losses import label_cross_entropy


class TokenClassificationObjective(Objective):
    """Soft-target cross entropy over the caption's different tokens without the special ones.

    Batch keys: ``image`` ``(batch, 3, height, width)``, ``caption_tokens`` ``(batch, length)`` int64.
    """

    def __init__(self, visual: nn.Module, textual: LinearTextualHead) -> None:
        super().__init__()
        self.visual = visual
        self.textual = textual

    def forward(self, batch: Mapping[str, Tensor]) -> ObjectiveOutput:
        """Loss of a batch; its only part is ``classification``; ``num_tokens`` counts images."""
        logits = self.textual(self.visual(batch["image"]))
        loss, num_images = label_cross_entropy(logits, batch["caption_tokens"], SPECIAL_IDS)
        return ObjectiveOutput(loss, {"classification": loss.detach()}, num_images)
