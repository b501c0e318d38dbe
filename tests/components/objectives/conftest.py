"""Small model configurations and the golden batch."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from components.objectives.build import ModelConfig
from components.params import Backbone, Objective, TextualHead

ConfigMaker = Callable[..., ModelConfig]


@pytest.fixture(scope="session")
def make_config() -> ConfigMaker:
    """Builds the configuration of the golden small models; keywords change the textual head."""

    def make(objective: Any, backbone: str = "resnet18", vocab_size: int = 120, **head: Any) -> ModelConfig:
        sizes: dict[str, Any] = {
            "hidden_size": 64,
            "num_layers": 2,
            "attention_heads": 4,
            "feedforward_size": 128,
            "norm": "post",
            "dropout": 0.1,
            "max_caption_length": 30,
        }
        return ModelConfig(
            backbone=Backbone(name=backbone, zero_init_residual=True),
            textual_head=TextualHead(**(sizes | head)),
            objective=Objective(name=objective),
            vocab_size=vocab_size,
        )

    return make


@pytest.fixture
def golden_batch(golden_fill: ModuleType) -> dict[str, torch.Tensor]:
    """The golden batch A in our keys, float64 images."""
    arrays = {
        "image": golden_fill.images(),
        "caption_tokens": golden_fill.pad(golden_fill.CAPTIONS_A),
        "noitpac_tokens": golden_fill.flip_pad(golden_fill.CAPTIONS_A),
        "masked_tokens": golden_fill.pad(golden_fill.MLM_TOKENS_A),
        "masked_labels": golden_fill.pad(golden_fill.MLM_LABELS_A),
        "labels": golden_fill.pad(golden_fill.MULTILABEL_A),
    }
    batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
    batch["caption_lengths"] = (batch["caption_tokens"] != 0).sum(dim=1)
    return batch
