"""Masked language modelling with an image: predict hidden tokens from both sides."""

from collections.abc import Mapping

from torch import Tensor, nn

from components.models.textual_head import TransformerTextualHead
from components.objectives.interface import Objective, ObjectiveOutput
from components.objectives.losses import Targets, token_cross_entropies


class MaskedLMObjective(Objective):
    """Mean cross entropy of the tokens that were masked.

    Batch keys: ``image`` ``(batch, 3, height, width)``; ``masked_tokens`` ``(batch, length)`` int64,
    the caption with some tokens replaced, padded with 0; ``masked_labels`` ``(batch, length)`` int64,
    the true token where one is to be predicted and 0 elsewhere; ``caption_lengths`` ``(batch,)``.
    """

    def __init__(self, visual: nn.Module, textual: TransformerTextualHead) -> None:
        super().__init__()
        if textual.causal:
            raise ValueError("masked language modelling needs a textual head with causal=False")
        self.visual = visual
        self.textual = textual

    def forward(self, batch: Mapping[str, Tensor]) -> ObjectiveOutput:
        """Loss of a batch; its only part is ``masked_lm``."""
        targets = Targets.of(batch["masked_labels"])
        memory = self.textual.project(self.visual(batch["image"]))
        decoded = self.textual.decode(memory, batch["masked_tokens"], batch["caption_lengths"])
        [(loss, num_tokens)] = token_cross_entropies(self.textual.output, [decoded], [targets])
        return ObjectiveOutput(loss, {"masked_lm": loss.detach()}, num_tokens)
