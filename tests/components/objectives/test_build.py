import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from components.core.errors import InputError
from components.objectives.build import ModelConfig, build_objective
from components.params import check_params, overlay

ConfigMaker = Callable[..., ModelConfig]
REPOSITORY = Path(__file__).resolve().parents[3]
PUBLISHED = {  # by preset, and name of the original configuration
    "bicaptioning_R_50_L1_H2048": ("bicaptioning", 10_000),
    "captioning_R_50_L1_H2048": ("captioning", 10_000),
    "masked_lm_R_50_L1_H2048": ("masked_lm", 10_000),
    "multilabel_classification_R_50": ("multilabel_classification", 81),
    "token_classification_R_50": ("token_classification", 10_000),
}


@pytest.mark.parametrize("published", PUBLISHED)
def test_presets_build_the_published_models(published: str, tmp_path: Path, golden_dir: Path) -> None:
    golden = json.loads((golden_dir / "state_dict_keys.json").read_text(encoding="utf-8"))
    expected = golden["configs"][f"task_ablations/{published}.yaml"]
    name, vocab_size = PUBLISHED[published]
    config = config_of(f"coco/{published}", tmp_path / "params.yaml")
    assert (config.objective.name, config.vocab_size) == (name, vocab_size)
    with torch.device("meta"):
        objective = build_objective(config)
    state = [
        [key, list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
        for key, tensor in objective.state_dict().items()
    ]
    assert state == golden["key_lists"][expected["keys"]]
    parameters = list(objective.parameters())
    assert len(parameters) == expected["n_named_parameters"]
    assert sum(parameter.numel() for parameter in parameters) == expected["params_unique"]
    for first, *others in expected["tied"]:
        for other in others:
            assert objective.get_parameter(other) is objective.get_parameter(first)


def config_of(preset: str, params_path: Path) -> ModelConfig:
    """What pretraining builds under a preset, with COCO's categories where labels are learned."""
    shutil.copy(REPOSITORY / "params.yaml", params_path)
    overlay(preset, (), params_path, REPOSITORY / "presets")
    sections: Any = SimpleNamespace(**check_params(params_path))
    by_labels = sections.objective.name == "multilabel_classification"
    return ModelConfig(
        backbone=sections.backbone,
        textual_head=sections.textual_head,
        objective=sections.objective,
        vocab_size=81 if by_labels else sections.tokenize.vocab_size,
    )


@pytest.mark.parametrize("name", [name for name, _ in PUBLISHED.values()])
def test_config_survives_json(name: str, make_config: ConfigMaker) -> None:
    config = make_config(name, norm="pre", attention_heads=None)
    again = ModelConfig.model_validate_json(config.model_dump_json())
    assert again == config
    assert again.textual_head.num_heads == 1


def test_config_refuses_unknown_keys_and_impossible_values(make_config: ConfigMaker) -> None:
    fields = json.loads(make_config("captioning").model_dump_json())
    with pytest.raises(ValidationError, match="vocabulary"):
        ModelConfig.model_validate_json(json.dumps(fields | {"vocabulary": 3}))
    with pytest.raises(ValidationError, match="vocab_size"):
        ModelConfig.model_validate_json(json.dumps(fields | {"vocab_size": 1}))


def test_unknown_backbone_is_named(make_config: ConfigMaker) -> None:
    with pytest.raises(InputError, match="did you mean 'resnet50'"):
        build_objective(make_config("captioning", "resnet5"))


def test_textual_head_follows_its_section(make_config: ConfigMaker) -> None:
    head = build_objective(make_config("captioning", norm="pre", dropout=0.25, max_caption_length=7)).textual
    assert isinstance(head, torch.nn.Module)
    layer = head.transformer.layers[1]  # type: ignore[union-attr, index]
    assert layer.norm_first
    assert layer.dropout1.p == layer.self_attn.dropout == head.embedding.dropout.p == 0.25  # type: ignore[union-attr]
    assert layer.self_attn.num_heads == 4
    assert layer.linear1.out_features == 128
    assert head.embedding.positions.num_embeddings == 7  # type: ignore[union-attr]
