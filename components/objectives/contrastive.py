"""Contrastive learning of images and captions with a sigmoid for each pair (SigLIP, arXiv 2303.15343).

Otherwise than there the backbone is pooled by its mean and the text tower has the sizes of VirTex's head.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.caption_tokens import SPECIAL_IDS
from components.models.contrastive_head import ContrastiveHead
from components.models.textual_head import LinearTextualHead
from components.objectives.classification import label_cross_entropy
from components.objectives.interface import Objective, ObjectiveOutput


class ContrastiveObjective(Objective):
    """Which caption of the iteration belongs to an image: each pair is a yes or no of its own.

    In training the captions are those of all processes; in validation those of one process's batch, so that
    its loss goes by their number.

    Batch keys: ``image`` ``(batch, 3, height, width)``, ``caption_tokens`` ``(batch, length)`` int64 padded
    with 0, ``caption_lengths`` ``(batch,)`` int64. Part: ``contrastive``. ``num_tokens`` counts images.
    """

    def __init__(self, visual: nn.Module, textual: ContrastiveHead) -> None:
        super().__init__()
        self.visual = visual
        self.textual = textual

    def losses(self, batch: Mapping[str, Tensor], features: Tensor) -> dict[str, Tensor]:
        """Return the parts of the loss; features as the backbone gives them."""
        images = self.textual.images(features)
        captions = self.textual.captions(batch["caption_tokens"], batch["caption_lengths"])
        first = 0
        if self.training and dist.is_initialized() and dist.get_world_size() > 1:
            first = dist.get_rank() * len(captions)
            captions = _OfAllProcesses.apply(captions)
        return {"contrastive": pairs_loss(self.textual.logits(images, captions), first)}

    def fixed_shape_methods(self) -> list[tuple[nn.Module, str]]:
        """Return the text tower."""
        return [(self.textual, "captions")]

    def forward(self, batch: Mapping[str, Tensor]) -> ObjectiveOutput:
        """Return the loss of a batch."""
        losses = self.losses(batch, self.visual(batch["image"]))
        parts = {name: loss.detach() for name, loss in losses.items()}
        num_images = torch.full((), len(batch["image"]), device=batch["image"].device)
        return ObjectiveOutput(torch.stack([*losses.values()]).sum(), parts, num_images)


class ContrastiveClassificationObjective(ContrastiveObjective):
    """The same beside IDF token classification by one linear layer (SuperCLIP), made for small batches.

    Batch keys: those of contrastive learning. Parts: ``contrastive`` and ``classification``.

    Attributes:
        token_weights: as in `components.objectives.classification`.
    """

    token_weights: Tensor

    def __init__(
        self,
        visual: nn.Module,
        textual: ContrastiveHead,
        classifier: LinearTextualHead,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(visual, textual)
        self.classifier = classifier
        self.label_smoothing = label_smoothing
        self.register_buffer("token_weights", torch.ones(classifier.output.out_features))

    def losses(self, batch: Mapping[str, Tensor], features: Tensor) -> dict[str, Tensor]:
        """Return the parts of the loss; features as the backbone gives them."""
        smoothing = self.label_smoothing if self.training else 0.0
        logits, tokens = self.classifier(features), batch["caption_tokens"]
        loss, _ = label_cross_entropy(logits, tokens, SPECIAL_IDS, self.token_weights, smoothing)
        return {**super().losses(batch, features), "classification": loss}


def pairs_loss(logits: Tensor, first: int = 0) -> Tensor:
    """Return the mean over images of the summed losses of their pairs.

    Args:
        logits: ``(images, captions)``; image i belongs to caption ``first + i`` and to no other.
        first: column of the first image's caption.
    """
    signs = torch.full_like(logits, -1.0)
    signs.diagonal(first).fill_(1.0)
    return -F.logsigmoid(signs * logits).sum(dim=1).mean()


class _OfAllProcesses(torch.autograd.Function):
    """Vectors of all processes by rank, ``(processes * batch, size)``; gradients find their way back."""

    @staticmethod
    def forward(_: Any, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(_: Any, gradients: Tensor) -> Tensor:
        total = gradients.clone()
        dist.all_reduce(total)  # each process's loss has a share in everybody's captions
        return total.chunk(dist.get_world_size())[dist.get_rank()]
