"""The head of the classification objectives."""

from torch import Tensor, nn


class LinearTextualHead(nn.Module):
    """One linear layer on globally average-pooled features.

    Shape:
        feature map ``(batch, feature_size, height, width)`` -> logits ``(batch, vocab_size)``
    """

    def __init__(self, feature_size: int, vocab_size: int) -> None:
        super().__init__()
        self.output = nn.Linear(feature_size, vocab_size)

    def forward(self, visual_features: Tensor) -> Tensor:
        """Logits of all labels; see the class for shapes."""
        return self.output(visual_features.mean(dim=(2, 3)))
