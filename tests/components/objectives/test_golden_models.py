"""Losses, gradients, logits and running statistics of the public code's five tasks, reproduced."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from components.objectives.build import ModelConfig, build_objective
from components.objectives.interface import Objective

OBJECTIVES = {
    "bicaptioning": "bicaptioning_postnorm",
    "captioning": "captioning_postnorm",
    "masked_lm": "masked_lm_postnorm",
    "token_classification": "token_classification",
    "multilabel_classification": "multilabel_classification",
}
MODES = ["eval", "bn_train_dropout0"]
PRECISIONS = [(torch.float64, 1e-9), (torch.float32, 1e-5)]


@cache
def read_cases(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))["cases"]


def filled(config: ModelConfig, fill: ModuleType, mode: str, dtype: torch.dtype) -> Objective:
    objective = fill.fill_module(build_objective(config)).to(dtype)
    for module in objective.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return objective.train(mode != "eval")


def all_logits(objective: Any, name: str, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Full-length logits of each head, under their golden names."""
    features = objective.visual(batch["image"])
    if "classification" in name:
        return {"logits": objective.textual(features)}
    tokens = batch["masked_tokens" if name == "masked_lm" else "caption_tokens"]
    logits = {"logits": objective.textual(features, tokens, batch["caption_lengths"])}
    if name == "bicaptioning":
        logits["backward_logits"] = objective.backward_textual(
            features, batch["noitpac_tokens"], batch["caption_lengths"]
        )
    return logits


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=["float64", "float32"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_golden_case(
    name: str,
    mode: str,
    dtype: torch.dtype,
    tolerance: float,
    make_config: Callable[..., ModelConfig],
    golden_fill: ModuleType,
    golden_batch: dict[str, torch.Tensor],
    golden_dir: Path,
) -> None:
    golden = read_cases(golden_dir / "models.json")[f"{OBJECTIVES[name]}_r18/batchA/{mode}/f64"]
    config = make_config(name, vocab_size=81 if name == "multilabel_classification" else 120)
    objective = filled(config, golden_fill, mode, dtype)
    batch = golden_batch | {"image": golden_batch["image"].to(dtype)}

    output = objective(batch)
    output.loss.backward()
    assert output.loss.item() == pytest.approx(golden["loss"], rel=tolerance)
    parts = {part: value.item() for part, value in output.parts.items()}
    assert parts == pytest.approx(golden["loss_components"], rel=tolerance)
    assert not any(value.requires_grad for value in output.parts.values())

    # A float32 norm over millions of elements is itself wrong in the fourth digit.
    norms = {n: p.grad.double().norm().item() for n, p in objective.named_parameters() if p.grad is not None}
    assert list(norms) == list(golden["grad_norms"])
    assert norms == pytest.approx(golden["grad_norms"], rel=tolerance)
    if mode != "eval":
        state = objective.state_dict()
        for key, expected in golden["bn_after_step"].items():
            if key.endswith("num_batches_tracked"):
                assert state[key].item() == 1
            else:
                first5 = state[key].flatten()[:5].tolist()
                assert first5 == pytest.approx(expected["first5"], rel=tolerance, abs=tolerance)
                assert state[key].sum().item() == pytest.approx(expected["sum"], rel=tolerance, abs=tolerance)
    if dtype == torch.float64:
        check_features_and_logits(objective, name, batch, golden)


def check_features_and_logits(
    objective: Any, name: str, batch: dict[str, torch.Tensor], golden: dict[str, Any]
) -> None:
    with torch.no_grad():
        tensors = all_logits(objective, name, batch)
        tensors["visual_features"] = objective.visual(batch["image"])
    for key, tensor in tensors.items():
        expected = golden[key]
        assert list(tensor.shape) == expected["shape"]
        assert tensor.flatten()[:10].tolist() == pytest.approx(expected["first10"], rel=1e-9)
        assert tensor.abs().sum().item() == pytest.approx(expected["abs_sum"], rel=1e-9)
        for statistic in ("mean", "min", "max"):
            assert getattr(tensor, statistic)().item() == pytest.approx(expected[statistic], rel=1e-9)
    if not objective.training:
        assert predictions(tensors["logits"], name, batch).tolist() == golden["predictions"]


def predictions(logits: torch.Tensor, name: str, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    if "classification" in name:
        return logits.topk(10).indices
    best = logits.argmax(dim=-1)
    return best * (batch["masked_labels"] != 0) if name == "masked_lm" else best
