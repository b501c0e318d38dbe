"""Cross entropies of the objectives, as (mean, number of predictions averaged)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from components.models.special_ids import PAD_ID


def token_cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the targets that are not padding; zero where all are.

    Shape:
        logits ``(batch, length, vocab_size)``, targets ``(batch, length)`` int64 -> two scalars
    """
    total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD_ID, reduction="sum")
    num_tokens = (targets != PAD_ID).sum()
    return total / num_tokens.clamp(min=1), num_tokens


def label_cross_entropy(
    logits: Tensor, label_ids: Tensor, ignored_ids: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Soft-target cross entropy with 1/K on each of a row's K different labels.

    Mean over the rows that have a label; zero where none has.

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
