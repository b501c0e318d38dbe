"""Multilabel classification: which object categories an image shows (an ablation of the paper)."""

from collections.abc import Mapping

from torch import Tensor, nn

from components.models.textual_head import LinearTextualHead
from components.objectives.interface import Objective, ObjectiveOutput
from components.objectives.losses import label_cross_entropy

BACKGROUND_ID = 0


class MultilabelClassificationObjective(Objective):
    """Soft-target cross entropy over the image's categories.

    Batch keys: ``image`` ``(batch, 3, height, width)``; ``labels`` ``(batch, max_labels)`` int64,
    category ids from 1, padded with 0 (the background, which is ignored); repetitions count once.
    """

    def __init__(self, visual: nn.Module, textual: LinearTextualHead) -> None:
        super().__init__()
        self.visual = visual
        self.textual = textual

    def forward(self, batch: Mapping[str, Tensor]) -> ObjectiveOutput:
        """Loss of a batch; its only part is ``classification``; ``num_tokens`` counts images."""
        logits = self.textual(self.visual(batch["image"]))
        loss, num_images = label_cross_entropy(logits, batch["labels"], (BACKGROUND_ID,))
        return ObjectiveOutput(loss, {"classification": loss.detach()}, num_images)
