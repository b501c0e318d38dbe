"""Objectives of the linear head, ablations of the paper: which tokens, or object categories, an image has."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from components.core.caption_tokens import SPECIAL_IDS
from components.models.textual_head import LinearTextualHead
from components.objectives.interface import Objective, ObjectiveOutput

BACKGROUND_ID = 0


class TokenClassificationObjective(Objective):
    """Soft-target cross entropy over the caption's different tokens without the special ones.

    Batch keys: ``image`` ``(batch, 3, height, width)``, ``caption_tokens`` ``(batch, length)`` int64.
    """

    def __init__(self, visual: nn.Module, textual: LinearTextualHead) -> None:
        super().__init__()
        self.visual = visual
        self.textual = textual

    def forward(self, batch: Mapping[str, Tensor]) -> ObjectiveOutput:
        """Return the loss of a batch; its only part is ``classification``; ``num_tokens`` counts images."""
        logits = self.textual(self.visual(batch["image"]))
        loss, num_images = label_cross_entropy(logits, batch["caption_tokens"], SPECIAL_IDS)
        return ObjectiveOutput(loss, {"classification": loss.detach()}, num_images)


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
        """Return the loss of a batch; its only part is ``classification``; ``num_tokens`` counts images."""
        logits = self.textual(self.visual(batch["image"]))
        loss, num_images = label_cross_entropy(logits, batch["labels"], (BACKGROUND_ID,))
        return ObjectiveOutput(loss, {"classification": loss.detach()}, num_images)


def label_cross_entropy(
    logits: Tensor, label_ids: Tensor, ignored_ids: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return the soft-target cross entropy with 1/K on each of a row's K different labels, and its rows.

    It is the mean over the rows that have a label; zero where none has.

    Shape:
        logits ``(batch, num_labels)``, label_ids ``(batch, any)`` int64, repetitions allowed
        -> two scalars
    """
    targets = torch.zeros_like(logits).scatter_(1, label_ids, 1.0)
    for label in ignored_ids:
        targets[:, label] = 0.0
    num_labels = targets.sum(dim=1)  # (batch,)
    log_probs = logits.log_softmax(dim=1)
    row_losses = -(log_probs * targets).sum(dim=1) / num_labels.clamp(min=1)
    num_rows = (num_labels > 0).sum()
    return row_losses.sum() / num_rows.clamp(min=1), num_rows
