import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from components.core.errors import InputError
from components.export.zoo.captioners import build_captioner, infer_config, is_captioner
from components.models.decoding import beam_search
from components.objectives.build import ModelConfig

TASKS = ("bicaptioning", "captioning", "masked_lm", "token_classification", "multilabel_classification")


def config_for(config: ModelConfig, task: str) -> ModelConfig:
    return config.model_copy(update={"objective": config.objective.model_copy(update={"name": task})})


@pytest.mark.parametrize("task", TASKS)
def test_the_authors_checkpoints_by_the_golden_names_and_shapes(golden_dir: Path, task: str) -> None:
    golden = json.loads((golden_dir / "state_dict_keys.json").read_text(encoding="utf-8"))
    path, entry = next((p, e) for p, e in golden["configs"].items() if p.split("/")[1].startswith(f"{task}_"))
    tensors = {
        name: torch.zeros((), dtype=getattr(torch, dtype)).expand(shape)
        for name, shape, dtype in golden["key_lists"][entry["keys"]]
    }
    config = infer_config(tensors, path)
    assert config.objective.name == task
    assert config.backbone.name == "resnet50"
    assert config.vocab_size == (81 if task == "multilabel_classification" else 10_000)
    head = config.textual_head
    assert (head.hidden_size, head.num_layers, head.num_heads, head.ffn_size) == (2048, 1, 32, 8192)
    assert (head.norm, head.max_caption_length) == ("post", 30)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_models_come_back_whole(small_model, task: str, prefix: str) -> None:
    model = small_model(task)
    tensors = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    assert is_captioner(tensors)
    random_state = torch.get_rng_state()
    objective, config = build_captioner(tensors, f"zoo/{task}_R_18.pth")
    assert torch.equal(torch.get_rng_state(), random_state)
    assert type(objective) is type(model)
    assert config.backbone.name == "resnet18"
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in objective.state_dict().items())


@pytest.mark.parametrize(
    "head", [{"norm": "pre"}, {"hidden_size": 192, "num_layers": 3}, {"feedforward_size": 100}]
)
def test_heads_of_other_shapes(small_model, head: dict) -> None:
    model = small_model("bicaptioning", **head)
    objective, config = build_captioner(model.state_dict(), "x.pth")
    assert config.textual_head.model_copy(update=head) == config.textual_head
    images = torch.randn(2, 3, 64, 64)
    found, expected = (beam_search(m.textual, m.visual(images)).tokens for m in (objective, model))
    assert torch.equal(found, expected)


def test_two_tasks_of_the_same_tensors(small_model) -> None:
    tensors = small_model("masked_lm").state_dict()
    with pytest.raises(InputError, match="say which it is with --objective"):
        infer_config(tensors, "captioning/checkpoint_500000.pth")
    assert infer_config(tensors, "x.pth", "masked_lm").objective.name == "masked_lm"
    assert infer_config(tensors, "captioning/masked_lm_R_50.pth#sha256=00").objective.name == "masked_lm"


def without(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in tensors.items() if key != name}


def test_what_is_no_virtex_model(small_model) -> None:
    tensors = small_model("bicaptioning").state_dict()
    backbone = {name: tensor for name, tensor in tensors.items() if name.startswith("visual.")}
    assert not is_captioner(backbone)
    with pytest.raises(InputError, match="a backbone without a textual head"):
        infer_config(backbone, "x.pth")
    with pytest.raises(InputError, match=r"but not textual\.embedding\.positions\.weight"):
        infer_config(without(tensors, "textual.embedding.positions.weight"), "x.pth")
    with pytest.raises(InputError, match=r"missing \['textual\.output\.bias'\]"):
        build_captioner(without(tensors, "textual.output.bias"), "x.pth")
    untied = tensors | {"textual.output.weight": torch.zeros(50, 64)}
    with pytest.raises(InputError, match=r"textual\.output\.weight .* differ; a VirTex model shares them"):
        build_captioner(untied, "x.pth")
    cut = tensors | {"textual.output.bias": torch.zeros(49)}
    with pytest.raises(InputError, match=r"textual\.output\.bias has shape \(49,\)"):
        build_captioner(cut, "x.pth")
    with pytest.raises(InputError, match="width 200 is not a multiple of 64"):
        infer_config(tensors | {"textual.embedding.words.weight": torch.zeros(50, 200)}, "x.pth")
