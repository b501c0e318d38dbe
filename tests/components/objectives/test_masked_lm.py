import pytest

from components.models.backbones import TorchvisionBackbone
from components.models.textual_head import TransformerTextualHead
from components.objectives.masked_lm import MaskedLMObjective


def test_causal_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="causal=False"):
        MaskedLMObjective(TorchvisionBackbone("resnet18"), TransformerTextualHead(512, 30, 16))
