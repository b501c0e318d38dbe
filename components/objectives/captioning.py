"""Objectives of the transformer head: captioning, in one direction, in both and in parallel; masked LM."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.caption_tokens import MASK_ID
from components.models.textual_head import TransformerTextualHead
from components.objectives.interface import Objective, ObjectiveOutput

CAPTION_KEYS = ("caption_tokens", "noitpac_tokens", "caption_lengths")


class Reading(NamedTuple):
    """One pass of a textual head over captions of a batch, a part of the loss.

    Attributes:
        part: its name.
        head: reads them.
        shown: ``(captions, length)`` int64, the tokens it is given.
        expected: as large, the tokens it is to predict there; none where 0.
        lengths: ``(captions,)`` int64, of ``shown`` before its padding; None: no position is hidden from
            another, be it padding or later.
        images: ``(captions,)`` int64, the captions' rows of the batch; None: all.
    """

    part: str
    head: TransformerTextualHead
    shown: Tensor
    expected: Tensor
    lengths: Tensor | None
    images: Tensor | None = None


class TransformerObjective(Objective):
    """Mean cross entropy of the tokens that readings of the caption are to predict, summed over readings.

    With label smoothing, in training only, the target is ``1 - label_smoothing`` on the token and the rest
    spread evenly over all tokens; validation's loss stays comparable.
    """

    def __init__(
        self, visual: nn.Module, textual: TransformerTextualHead, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.visual = visual
        self.textual = textual
        self.label_smoothing = label_smoothing

    @abstractmethod
    def readings(self, batch: Mapping[str, Any]) -> list[Reading]:
        """Return what is read of a batch."""

    def weights(self, counts: Sequence[int]) -> tuple[list[float], int]:
        """Return the weight of each reading's mean, and ``num_tokens``; ``counts`` are its predictions."""
        return [1.0] * len(counts), counts[0]

    def prepared(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a batch with ``targets``, those of each reading."""
        targets = [Targets.of(reading.expected)._asdict() for reading in self.readings(batch)]
        return {**batch, "targets": targets}

    def fixed_shape_methods(self) -> list[tuple[nn.Module, str]]:
        """Return the head's pass over captions."""
        return [(self.textual, "decode")]

    def forward(self, batch: Mapping[str, Any]) -> ObjectiveOutput:
        """Return the loss of a batch; its parts are the readings'."""
        if "targets" not in batch:
            batch = self.prepared(batch)
        readings = self.readings(batch)
        targets = [Targets(**chosen) for chosen in batch["targets"]]
        memory = self.textual.project(self.visual(batch["image"]))
        decoded = [
            head.decode(memory if images is None else memory[images], shown, lengths)
            for _, head, shown, _, lengths, images in readings
        ]
        smoothing = self.label_smoothing if self.training else 0.0
        means = token_cross_entropies(self.textual.output, decoded, targets, smoothing)
        weights, num_tokens = self.weights([len(chosen.tokens) for chosen in targets])
        losses = [weight * mean for weight, mean in zip(weights, means, strict=True)]
        parts = {reading.part: loss.detach() for reading, loss in zip(readings, losses, strict=True)}
        return ObjectiveOutput(
            torch.stack(losses).sum(), parts, torch.full((), num_tokens, device=memory.device)
        )


class CaptioningObjective(TransformerObjective):
    """Prediction of the caption's tokens after [SOS], each from those before it.

    Batch keys: ``image`` ``(batch, 3, height, width)``, ``caption_tokens`` ``(batch, length)``
    int64 padded with 0, ``caption_lengths`` ``(batch,)`` int64. Part: ``captioning_forward``.
    """

    def readings(self, batch: Mapping[str, Any]) -> list[Reading]:
        """Return the caption read forwards."""
        return [_next_tokens("captioning_forward", self.textual, batch, "caption_tokens")]


class BicaptioningObjective(CaptioningObjective):
    """Captioning plus captioning of the reversed caption by a second transformer.

    ``backward_textual`` shares visual projection, embedding and output layer with ``textual``, and
    its transformer starts as a copy.

    Batch keys: those of captioning, and ``noitpac_tokens`` ``(batch, length)`` int64: each row of
    ``caption_tokens`` reversed, then padded. Parts: ``captioning_forward`` and ``captioning_backward``.
    ``num_tokens`` counts the forward direction. The other has as many, but for a truncated caption that
    ends with an unknown token: one more.
    """

    def __init__(
        self, visual: nn.Module, textual: TransformerTextualHead, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(visual, textual, label_smoothing)
        self.backward_textual = textual.twin()

    def readings(self, batch: Mapping[str, Any]) -> list[Reading]:
        """Return the caption read forwards and backwards."""
        backward = _next_tokens("captioning_backward", self.backward_textual, batch, "noitpac_tokens")
        return [*super().readings(batch), backward]

    def fixed_shape_methods(self) -> list[tuple[nn.Module, str]]:
        """Return both heads' passes over captions."""
        return [*super().fixed_shape_methods(), (self.backward_textual, "decode")]


class MaskedLMObjective(TransformerObjective):
    """Prediction of the tokens that were masked.

    Batch keys: ``image`` ``(batch, 3, height, width)``; ``masked_tokens`` ``(batch, length)`` int64,
    the caption with some tokens replaced, padded with 0; ``masked_labels`` ``(batch, length)`` int64,
    the true token where one is to be predicted and 0 elsewhere; ``caption_lengths`` ``(batch,)``.
    Part: ``masked_lm``.
    """

    def __init__(
        self, visual: nn.Module, textual: TransformerTextualHead, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(visual, textual, label_smoothing)
        if textual.causal:
            raise ValueError("masked language modelling needs a textual head with causal=False")

    def readings(self, batch: Mapping[str, Any]) -> list[Reading]:
        """Return the masked caption."""
        shown, expected = batch["masked_tokens"], batch["masked_labels"]
        return [Reading("masked_lm", self.textual, shown, expected, batch["caption_lengths"])]


def _next_tokens(part: str, head: TransformerTextualHead, batch: Mapping[str, Any], key: str) -> Reading:
    """Have each token predict the next one; the last column is a target only."""
    tokens = batch[key]
    return Reading(part, head, tokens[:, :-1], tokens[:, 1:], batch["caption_lengths"])


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

        Their number must be known on the host, which waits for the device that holds ``tokens``.
        """
        flat = tokens.flatten()
        rows = flat.nonzero().squeeze(1)  # padding is 0
        return cls(rows, flat[rows])


def token_cross_entropies(
    output: nn.Module, decoded: Sequence[Tensor], targets: Sequence[Targets], label_smoothing: float = 0.0
) -> list[Tensor]:
    """Return the mean over the targets of each of ``decoded``, zero without any.

    Only what has a target goes through the output layer, all of it in one product: logits of padding
    would cost as much as any others.

    Args:
        output: vectors to logits, ``(any, hidden_size)`` to ``(any, vocab_size)``.
        decoded: ``(batch, length, hidden_size)`` each.
        targets: as many.
        label_smoothing: share of the target that goes to all tokens alike.
    """
    rows = [vectors.flatten(0, 1)[chosen.rows] for vectors, chosen in zip(decoded, targets, strict=True)]
    tokens = torch.cat([chosen.tokens for chosen in targets])
    losses = F.cross_entropy(
        output(torch.cat(rows)), tokens, reduction="none", label_smoothing=label_smoothing
    )
    parts = losses.split([len(chosen.tokens) for chosen in targets])
    return [part.sum() / max(len(part), 1) for part in parts]


class ParallelCaptioningObjective(CaptioningObjective):
    """Captioning of some images, parallel captioning of the others (CapPa, arXiv 2306.07915).

    In parallel captioning all tokens of a caption are predicted at once: the decoder is shown [MASK] alone,
    at every position of the longest caption, and none is hidden from another, so that all it knows of the
    words comes from the image. A padding mask would reveal the caption's length. Otherwise than in CapPa all
    predicted tokens weigh the same, as in VirTex, and the output layer stays tied to the embedding.

    The loss is the mean over the tokens of all; its parts are what each kind of image adds to it.

    Batch keys: those of captioning, and ``parallel`` ``(batch,)`` int64: 1 where the caption is to be
    predicted all at once, else 0. Parts: captioning's, and ``captioning_parallel``.
    """

    def prepared(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a batch with ``targets``, and ``captioned_rows`` and ``parallel_rows``, which is which."""
        is_parallel = batch["parallel"].bool()
        rows = {
            "captioned_rows": (~is_parallel).nonzero().squeeze(1),
            "parallel_rows": is_parallel.nonzero().squeeze(1),
        }
        return super().prepared({**batch, **rows})

    def fixed_shape_methods(self) -> list[tuple[nn.Module, str]]:
        """Return nothing: how many images are of either kind differs from batch to batch."""
        return []

    def readings(self, batch: Mapping[str, Any]) -> list[Reading]:
        """Return the readings of captioning, for its images, and the parallel one of the others."""
        rows, others = batch["parallel_rows"], batch["captioned_rows"]
        captioned = super().readings({key: batch[key][others] for key in CAPTION_KEYS if key in batch})
        tokens = batch["caption_tokens"][rows, 1:]  # position i predicts what it does in captioning
        expected = F.pad(tokens, (0, self.textual.max_caption_length - 1 - tokens.shape[1]))
        shown = torch.full_like(expected, MASK_ID)
        parallel = Reading("captioning_parallel", self.textual, shown, expected, None, rows)
        lengths = batch["caption_lengths"][others] if len(others) else None  # torch has no mask of no rows
        return [*(reading._replace(lengths=lengths, images=others) for reading in captioned), parallel]

    def weights(self, counts: Sequence[int]) -> tuple[list[float], int]:
        """Return each kind's share of the tokens, and their number; captioning's own without others."""
        num_tokens = counts[0] + counts[-1]
        shares = [count / max(num_tokens, 1) for count in (counts[0], counts[-1])]
        return [*[shares[0]] * (len(counts) - 1), shares[1]], num_tokens


class ParallelBicaptioningObjective(ParallelCaptioningObjective, BicaptioningObjective):
    """The same beside bicaptioning; the parallel reading has no direction: ``textual`` does it once."""
