"""Small textual heads."""

from collections.abc import Callable

import pytest
import torch

from components.models.textual_head import TransformerTextualHead

HeadMaker = Callable[..., TransformerTextualHead]


@pytest.fixture
def make_head() -> HeadMaker:
    """Builds a head of 8 feature channels, 30 tokens and 12 positions whose weights are not tiny."""

    def make(spread: float = 0.3, **changes: object) -> TransformerTextualHead:
        torch.manual_seed(0)
        arguments = {"hidden_size": 16, "num_layers": 2, "num_heads": 4, "max_caption_length": 12} | changes
        head = TransformerTextualHead(8, 30, **arguments)  # type: ignore[arg-type]
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(spread * torch.randn_like(parameter))
        return head.double().eval()

    return make
