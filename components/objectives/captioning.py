"""Objectives of the transformer head: captioning in one direction and in both, masked language modelling."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.models.textual_head import TransformerTextualHead
from components.objectives.interface import Objective, ObjectiveOutput


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
        """Return the loss of a batch; its only part is ``captioning_forward``."""
        tokens = batch["caption_tokens"]  # each predicts the next; the last column is a target only
        targets = Targets.of(tokens[:, 1:])
        memory = self.textual.project(self.visual(batch["image"]))
        decoded = self.textual.decode(memory, tokens[:, :-1], batch["caption_lengths"])
        [(loss, num_tokens)] = token_cross_entropies(self.textual.output, [decoded], [targets])
        return ObjectiveOutput(loss, {"captioning_forward": loss.detach()}, num_tokens)


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
        """Return the loss of a batch, the sum of ``captioning_forward`` and ``captioning_backward``.

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
        """Return the loss of a batch; its only part is ``masked_lm``."""
        targets = Targets.of(batch["masked_labels"])
        memory = self.textual.project(self.visual(batch["image"]))
        decoded = self.textual.decode(memory, batch["masked_tokens"], batch["caption_lengths"])
        [(loss, num_tokens)] = token_cross_entropies(self.textual.output, [decoded], [targets])
        return ObjectiveOutput(loss, {"masked_lm": loss.detach()}, num_tokens)


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
        """Select those of ``tokens`` ``(batch, length)`` that are not padding.

        Their number must be known on the host, which waits for the GPU: call this before the iteration's
        own work is queued.
        """
        flat = tokens.flatten()
        rows = flat.nonzero().squeeze(1)  # padding is 0
        return cls(rows, flat[rows])


def token_cross_entropies(
    output: nn.Module, decoded: Sequence[Tensor], targets: Sequence[Targets]
) -> list[tuple[Tensor, Tensor]]:
    """Return the mean over the targets of each of ``decoded``, zero without any, and their number.

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
