"""Cross entropies of the objectives, as (mean, number of predictions averaged)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Targets(NamedTuple):
    """The tokens to predict of a padded batch.

    Attributes:
        rows: ``(num_targets,)`` int64, where they stand in the flattened batch.
        tokens: ``(num_targets,)`` int64.
    """

    rows: Tensor
    tokens: Tensor

    @classmethod
    def of(cls, tokens: Tensor) -> "Targets":
        """Those of ``tokens`` ``(batch, length)`` that are not padding.

        Their number must be known on the host: a GPU is waited for. Ask before a step's own work is queued.
        """
        flat = tokens.flatten()
        rows = flat.nonzero().squeeze(1)  # padding is 0
        return cls(rows, flat[rows])


def token_cross_entropies(
    output: nn.Module, decoded: Sequence[Tensor], targets: Sequence[Targets]
) -> list[tuple[Tensor, Tensor]]:
    """Mean over the targets of each of ``decoded``; zero without any.

    Only what has a target goes through the output layer, all of it in one product: logits of padding
    would cost as much as any others.

    Args:
        output: vectors to logits, ``(any, hidden_size)`` to ``(any, vocab_size)``.
        decoded: ``(batch, length, hidden_size)`` each.
        targets: as many.
    """
    rows = [vectors.flatten(0, 1)[chosen.rows] for vectors, chosen in zip(decoded, targets, strict=True)]
    tokens = torch.cat([chosen.tokens for chosen in targets])
    losses = F.cross_entropy(output(torch.cat(rows)), tokens, reduction="none")
    parts = losses.split([len(chosen.tokens) for chosen in targets])
    return [(part.sum() / max(len(part), 1), torch.full((), len(part), device=part.device)) for part in parts]


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
