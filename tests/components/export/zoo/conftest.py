"""Small models in the layouts of other people's files."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from components import params
from components.objectives.build import ModelConfig, build_objective


def small_config(objective: str, backbone: str = "resnet18", **head: object) -> ModelConfig:
    section = {
        "hidden_size": 64,
        "num_layers": 2,
        "attention_heads": None,
        "feedforward_size": None,
        "norm": "post",
        "dropout": 0.1,
        "max_caption_length": 12,
    }
    return ModelConfig(
        backbone=params.Backbone(name=backbone, zero_init_residual=True),
        textual_head=params.TextualHead.model_validate(section | head),
        objective=params.Objective.model_validate({"name": objective}),
        vocab_size=81 if objective == "multilabel_classification" else 50,
    )


@pytest.fixture(scope="session")
def small_model() -> Callable[..., nn.Module]:
    """A model whose BatchNorm has seen something, by the arguments of `small_config`."""

    def build(*names: str, **head: object) -> nn.Module:
        torch.manual_seed(1)
        objective = build_objective(small_config(*names, **head)).train()
        with torch.no_grad():
            objective.visual(torch.randn(2, 3, 64, 64))
        return objective.eval()

    return build


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
