"""Image classification with linear heads on a backbone, as an objective of the training loop."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.objectives.interface import Objective, ObjectiveOutput

INITIAL_DEVIATION = 0.01  # of the heads' weights, whose biases start at 0 (paper, section 4.1)
TOP = 5
# Of a head's loss, and of what its gradient's elements could be at most: beyond it the head has diverged, and
# the norm over all heads' gradients, whose squares float32 must hold, would be drawn along.
BOUND = 1e14


class ParallelLinearHeads(nn.Module):
    """Linear classifiers side by side, all from the same initial weights, in one matrix product.

    They compute in the type of their weights, float32, under autocast too.

    Shape:
        features ``(batch, feature_size)`` -> logits ``(num_heads, batch, num_classes)``
    """

    def __init__(self, num_heads: int, feature_size: int, num_classes: int) -> None:
        super().__init__()
        weight = torch.randn(num_classes, feature_size) * INITIAL_DEVIATION
        self.weight = nn.Parameter(weight.repeat(num_heads, 1, 1))
        self.bias = nn.Parameter(torch.zeros(num_heads, num_classes))

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits of every head; see the class for shapes."""
        num_heads, num_classes = self.bias.shape
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(self.weight.dtype)
            logits = F.linear(features, self.weight.flatten(0, 1), self.bias.flatten())
        return logits.unflatten(1, (num_heads, num_classes)).transpose(0, 1)


class ClassificationObjective(Objective):
    """Cross entropy of one or several linear heads that share a backbone.

    A head's learning rate is the optimizer's times its rate factor. That is done by scaling the head's
    gradient, which for SGD with momentum and without weight decay is the same thing; heads do not
    influence each other, as long as the backbone is frozen. Of several heads one that reaches BOUND has
    diverged: it gets no more gradients and has no figures, and the others go on.

    Batch keys: ``label`` ``(batch,)`` int64, and ``image`` ``(batch, 3, height, width)`` or, instead of
    it, ``features`` ``(batch, feature_size)`` of this very backbone.

    Args:
        visual: maps images to pooled features ``(batch, feature_size)``.
        heads: on these features.
        names: of the heads, which end the names of their figures; the empty name adds nothing.
        rate_factors: learning rate of each head, as a multiple of the optimizer's; the first one is 1.
        frozen: keep the backbone as it is, its BatchNorm in eval mode.

    Raises:
        ValueError: for several heads on a backbone that is trained.
    """

    def __init__(
        self,
        visual: nn.Module,
        heads: ParallelLinearHeads,
        *,
        names: Sequence[str] = ("",),
        rate_factors: Sequence[float] = (1.0,),
        frozen: bool,
    ) -> None:
        super().__init__()
        if len(rate_factors) > 1 and not frozen:
            raise ValueError("several heads would pull a backbone that is trained in several directions")
        self.visual = visual.requires_grad_(not frozen)
        self.heads = heads
        self.names = tuple(names)
        self.frozen = frozen
        self.register_buffer("rate_factors", torch.tensor(rate_factors))
        if len(self.names) > 1:
            self.register_buffer("is_sound", torch.ones(len(self.names), dtype=torch.bool))
            self.register_load_state_dict_pre_hook(_with_sound_heads)
        self.train(self.training)

    def train(self, mode: bool = True) -> "ClassificationObjective":
        """Set training mode, which a frozen backbone does not follow."""
        super().train(mode)
        if self.frozen:
            self.visual.eval()
        return self

    def forward(self, batch: Mapping[str, Tensor]) -> ObjectiveOutput:
        """Return the loss of a batch.

        The loss has the value of the first head that has not diverged and the gradients of all of those. The
        parts are ``top1`` and ``top5`` in percent and, of several heads, ``loss``, each with the head's name
        at its end, NaN of a head that has diverged; ``num_tokens`` counts images.
        """
        labels = batch["label"]
        features = self._features(batch)
        logits: Tensor = self.heads(features)
        losses = cross_entropies(logits, labels)
        factors = self.get_buffer("rate_factors")
        figures = {f"top{k}": hits for k, hits in zip((1, TOP), _hits(logits, labels), strict=True)}
        first = losses[0]
        if len(self.names) > 1:
            sound = self._sound_heads(losses.detach(), features.detach())
            if logits.requires_grad:  # one head's NaN in the norm of all gradients would reach the others
                logits.register_hook(lambda grad: torch.where(sound[:, None, None], grad, 0.0))
            factors = torch.where(sound, factors, 0.0)
            first = torch.where(sound.any(), losses.take(sound.int().argmax()), torch.nan)
            figures["loss"] = losses.detach()
            figures = {name: torch.where(sound, values, torch.nan) for name, values in figures.items()}
            losses = torch.where(sound, losses, 0.0)
        loss = first.detach() + (factors * (losses - losses.detach())).sum()
        parts = {
            figure + name: values[head]
            for head, name in enumerate(self.names)
            for figure, values in figures.items()
        }
        return ObjectiveOutput(loss, parts, torch.tensor(len(labels), device=labels.device))

    def logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return logits ``(num_heads, batch, num_classes)`` of images or of ready features."""
        logits: Tensor = self.heads(self._features(batch))
        return logits

    def diverged_heads(self) -> list[bool]:
        """Tell which heads have diverged: in a loss, or in a weight by the last step."""
        weights = [values.flatten(1).isfinite().all(dim=1) for values in (self.heads.weight, self.heads.bias)]
        sound = weights[0] & weights[1]
        if len(self.names) > 1:
            sound = sound & self.get_buffer("is_sound")
        return (~sound).tolist()

    def _features(self, batch: Mapping[str, Tensor]) -> Tensor:
        if "features" in batch:
            return batch["features"]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features: Tensor = self.visual(batch["image"])
        return features

    def _sound_heads(self, losses: Tensor, features: Tensor) -> Tensor:
        """Tell which of several heads have not diverged; in training those that do are remembered."""
        remembered = self.get_buffer("is_sound")
        largest_gradients = self.get_buffer("rate_factors") * features.abs().amax()
        sound = remembered & (losses < BOUND) & (largest_gradients < BOUND)
        if self.training:
            remembered.copy_(sound)
        return sound


def _with_sound_heads(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Add what checkpoints from before heads could diverge one by one do not say: all are sound."""
    state.setdefault(f"{prefix}is_sound", torch.ones_like(module.get_buffer("is_sound")))


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy of each head.

    Shape:
        logits ``(num_heads, batch, num_classes)``, labels ``(batch,)`` -> ``(num_heads,)``
    """
    num_heads, batch_size, _ = logits.shape
    losses = F.cross_entropy(logits.flatten(0, 1), labels.repeat(num_heads), reduction="none")
    return losses.view(num_heads, batch_size).mean(dim=1)


def ranked_classes(logits: Tensor) -> Tensor:
    """Return the TOP likeliest classes, best first; all where there are fewer.

    Shape:
        logits ``(..., num_classes)`` -> ``(..., TOP)`` int64
    """
    return logits.topk(min(TOP, logits.shape[-1]), dim=-1).indices


@torch.no_grad()
def _hits(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return percentages ``(num_heads,)`` of images whose class is the likeliest one, and among the TOP."""
    right = ranked_classes(logits) == labels[None, :, None]
    return 100 * right[..., 0].float().mean(dim=1), 100 * right.any(dim=2).float().mean(dim=1)
