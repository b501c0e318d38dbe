"""A small untrained captioner, in memory and as a file: fixtures for the folders that need one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from components.captioning.captioner import Captioner
from components.captioning.checkpoint import open_captioner
from components.objectives.build import ModelConfig, build_objective
from components.objectives.saved import Preprocessing, save_captioner
from components.text.tokenizer import train_tokenizer

WORDS = ("red", "green", "blue", "grey", "pink", "black", "white")
VOCAB_SIZE = 60
ConfigMaker = Callable[..., ModelConfig]


def config(objective: str = "bicaptioning", vocab_size: int = VOCAB_SIZE) -> ModelConfig:
    return ModelConfig.model_validate(
        {
            "backbone": {"name": "resnet18", "zero_init_residual": False},
            "textual_head": {
                "hidden_size": 64, "num_layers": 2, "attention_heads": 1, "feedforward_size": 64,
                "norm": "post", "dropout": 0.1, "max_caption_length": 8,
            },
            "objective": {"name": objective},
            "vocab_size": vocab_size,
        }
    )  # fmt: skip


@pytest.fixture(scope="session")
def make_config() -> ConfigMaker:
    """Builds the captioner's configuration; arguments change its objective and vocabulary."""
    return config


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "captions.model"
    train_tokenizer([f"a {word} circle on the left of a {word} star" for word in WORDS], VOCAB_SIZE, path)
    return path


@pytest.fixture(scope="session")
def captioner_path(tmp_path_factory: pytest.TempPathFactory, tokenizer_path: Path) -> Path:
    """A file whose model says different things about different pictures."""
    path = tmp_path_factory.mktemp("captioner") / "captioner.safetensors"
    torch.manual_seed(0)
    objective = build_objective(config())
    with torch.no_grad():
        for parameter in objective.get_submodule("textual").parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_captioner(path, objective, config(), Preprocessing(64, tokenizer_path.read_bytes()))
    return path


@pytest.fixture(scope="session")
def captioner(captioner_path: Path) -> Captioner:
    return open_captioner(str(captioner_path), "cpu")
