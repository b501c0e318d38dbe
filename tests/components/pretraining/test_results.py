from pathlib import Path

import numpy as np
import torch
from PIL import Image

from components import params
from components.objectives.build import ModelConfig, build_objective
from components.pretraining.results import Logits, draw_losses, logits_inputs
from components.training.state import History


def test_draws_what_was_measured(tmp_path: Path) -> None:
    train = [{"iteration": i, "loss": 9.0 / i, "backbone_lr": 0.2, "head_lr": 0.1} for i in (1, 2, 3)]
    history = History(train=train, val=[{"iteration": 3, "loss": 4.0}])
    draw_losses(tmp_path / "full.png", history)
    draw_losses(tmp_path / "empty.png", History())
    full, empty = (np.asarray(Image.open(tmp_path / name)) for name in ("full.png", "empty.png"))
    assert full.shape == empty.shape == (720, 960, 4)
    assert not np.array_equal(full, empty)


def _config(name: str) -> ModelConfig:
    return ModelConfig(
        backbone=params.Backbone(name="resnet18", zero_init_residual=False),
        textual_head=params.TextualHead(
            hidden_size=64,
            num_layers=1,
            attention_heads=None,
            feedforward_size=64,
            norm="post",
            dropout=0.1,
            max_caption_length=8,
        ),
        objective=params.Objective(name=name),
        vocab_size=20,
    )


BATCH = {
    "image": torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32),
    "image_id": ["a", "b"],
    "caption_tokens": torch.tensor([[1, 5, 6, 2], [1, 7, 2, 0]]),
    "caption_lengths": torch.tensor([4, 3]),
}


@torch.inference_mode()
def test_logits_of_the_next_token() -> None:
    objective = build_objective(_config("bicaptioning")).eval()
    logits = Logits(objective)(*logits_inputs(objective, BATCH))
    features = objective.visual(BATCH["image"])
    expected = objective.textual(features, BATCH["caption_tokens"], BATCH["caption_lengths"])
    assert logits.shape == (2, 4, 20)
    assert torch.equal(logits, expected)


@torch.inference_mode()
def test_logits_of_the_labels() -> None:
    objective = build_objective(_config("token_classification")).eval()
    inputs = logits_inputs(objective, BATCH)
    assert len(inputs) == 1
    assert Logits(objective)(*inputs).shape == (2, 20)
