"""A pretrained model as one function of tensors, for tools that know nothing of objectives."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from components.objectives.interface import Objective


class Logits(nn.Module):
    """Backbone and (forward) textual head of an objective.

    Shape:
        image ``(batch, 3, height, width)`` float32, and for heads that read captions
        caption_tokens ``(batch, length)`` int64 and caption_lengths ``(batch,)`` int64
        -> logits ``(batch, length, vocab_size)``, or ``(batch, vocab_size)`` without captions
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.visual = objective.visual
        self.textual = objective.get_submodule("textual")

    def forward(
        self, image: Tensor, caption_tokens: Tensor | None = None, caption_lengths: Tensor | None = None
    ) -> Tensor:
        """Logits of the next token at each position, or of the labels.

        Every input has a name of its own: torch.export matches shapes with them one by one.
        """
        caption = () if caption_tokens is None else (caption_tokens, caption_lengths)
        return self.textual(self.visual(image), *caption)


def logits_inputs(objective: Objective, batch: Mapping[str, Any]) -> list[Tensor]:
    """What ``Logits(objective)`` takes, from a batch of the loader for this objective."""
    names = ["image", "masked_tokens" if "masked_tokens" in batch else "caption_tokens", "caption_lengths"]
    reads_captions = hasattr(objective.get_submodule("textual"), "embedding")
    return [batch[name] for name in (names if reads_captions else names[:1])]
