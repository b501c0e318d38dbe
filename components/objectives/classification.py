"""Objectives of the linear head: which tokens, or object categories, an image has.

Ablations of the paper, and one of SuperClass.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from components.core.caption_tokens import SPECIAL_IDS
from components.models.textual_head import LinearTextualHead
from components.objectives.interface import Objective, ObjectiveOutput

BACKGROUND_ID = 0


class ClassificationObjective(Objective):
    """Soft-target cross entropy over labels of an image; its only part is ``classification``.

    Label smoothing is that of `components.objectives.captioning`. ``num_tokens`` counts images.

    Attributes:
        key: of the batch, ``(batch, any)`` int64 label ids; ``image`` is ``(batch, 3, height, width)``.
        ignored: ids that are no labels.
    """

    key: str
    ignored: Sequence[int]

    def __init__(self, visual: nn.Module, textual: LinearTextualHead, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.visual = visual
        self.textual = textual
        self.label_smoothing = label_smoothing

    def weights(self) -> Tensor | None:
        """Return the weight of each label, ``(num_labels,)``; None where all have the same."""
        return None

    def forward(self, batch: Mapping[str, Tensor]) -> ObjectiveOutput:
        """Return the loss of a batch."""
        logits = self.textual(self.visual(batch["image"]))
        smoothing = self.label_smoothing if self.training else 0.0
        loss, num_images = label_cross_entropy(
            logits, batch[self.key], self.ignored, self.weights(), smoothing
        )
        return ObjectiveOutput(loss, {"classification": loss.detach()}, num_images)


class TokenClassificationObjective(ClassificationObjective):
    """Soft-target cross entropy over the caption's different tokens without the special ones.

    Batch keys: ``image`` ``(batch, 3, height, width)``, ``caption_tokens`` ``(batch, length)`` int64.
    """

    key, ignored = "caption_tokens", SPECIAL_IDS


class MultilabelClassificationObjective(ClassificationObjective):
    """Soft-target cross entropy over the image's categories.

    Batch keys: ``image`` ``(batch, 3, height, width)``; ``labels`` ``(batch, max_labels)`` int64,
    category ids from 1, padded with 0 (the background, which is ignored); repetitions count once.
    """

    key, ignored = "labels", (BACKGROUND_ID,)


def label_cross_entropy(
    logits: Tensor,
    label_ids: Tensor,
    ignored_ids: Sequence[int],
    weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return the soft-target cross entropy with 1/K on each of a row's K different labels, and its rows.

    It is the mean over the rows that have a label; zero where none has. With ``weights`` ``(num_labels,)``
    a label has its weight's share of the row's in the place of 1/K; a weight of 0 is no label.

    Shape:
        logits ``(batch, num_labels)``, label_ids ``(batch, any)`` int64, repetitions allowed
        -> two scalars
    """
    targets = torch.zeros_like(logits).scatter_(1, label_ids, 1.0)
    for label in ignored_ids:
        targets[:, label] = 0.0
    if weights is not None:
        targets = targets * weights
    totals = targets.sum(dim=1)  # (batch,)
    has_label = totals > 0
    log_probs = logits.log_softmax(dim=1)
    row_losses = -(log_probs * targets).sum(dim=1) / totals.where(has_label, 1.0)
    if label_smoothing:
        row_losses = (1 - label_smoothing) * row_losses - label_smoothing * log_probs.mean(dim=1) * has_label
    num_rows = has_label.sum()
    return row_losses.sum() / num_rows.clamp(min=1), num_rows


class IdfTokenClassificationObjective(TokenClassificationObjective):
    """Token classification weighted by inverse document frequency (SuperClass, arXiv 2411.03313).

    A token has the share of the target that its weight has of the caption's. Otherwise than there the head is
    token classification's one linear layer, without a LayerNorm before it, so that the two objectives differ
    in the weights alone.

    The weights belong to the captions of a run, whose frequencies are counted with its tokenizer
    (components.text.document_frequencies); they are saved with the model.

    Attributes:
        token_weights: ``(vocab_size,)`` float32, 1 each until they are filled in.
    """

    token_weights: Tensor

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.register_buffer("token_weights", torch.ones(self.textual.output.out_features))

    def weights(self) -> Tensor:
        """Return the weight of each token."""
        return self.token_weights
