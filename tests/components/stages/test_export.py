import json
from pathlib import Path

import pytest
import safetensors
import torch
import torchvision
from safetensors.torch import load_file

from components import params
from components.core import paths
from components.core.errors import InputError
from components.export.backbone import load_backbone
from components.objectives.build import ModelConfig, build_objective
from components.objectives.saved import save_captioner
from components.stages import export
from components.tracking import StageRun

CONFIG = ModelConfig(
    backbone=params.Backbone(name="resnet18", zero_init_residual=False),
    textual_head=params.TextualHead(
        hidden_size=32,
        num_layers=1,
        attention_heads=2,
        feedforward_size=None,
        norm="post",
        dropout=0.1,
        max_caption_length=10,
    ),
    objective=params.Objective(name="bicaptioning"),
    vocab_size=30,
)


class RecordingRun(StageRun):
    """A stage run without MLflow that keeps the models it is given."""

    def __init__(self, output_dir: Path) -> None:
        super().__init__("export", None, output_dir, None)
        self.models: dict[str, tuple[torch.nn.Module, torch.Tensor]] = {}

    def model(self, name, module, example) -> None:
        self.models[name] = (module, example)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordingRun:
    monkeypatch.chdir(tmp_path)
    output_dir = paths.stage_dir("export")
    output_dir.mkdir(parents=True)
    return RecordingRun(output_dir)


def test_writes_the_backbone_of_the_captioner(run: RecordingRun) -> None:
    torch.manual_seed(0)
    objective = build_objective(CONFIG).train()
    objective.visual(torch.randn(4, 3, 64, 64))  # moves the BatchNorm statistics
    save_captioner(paths.CAPTIONER, objective, CONFIG)

    export.main(run)

    path = paths.backbone_path("virtex")
    backbone, metadata = load_backbone(path)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = objective.eval().visual(images).mean(dim=(2, 3))
    torch.testing.assert_close(backbone(images), expected)
    assert metadata["objective"] == "bicaptioning"
    assert metadata["source"] == "virtex"
    assert ModelConfig.model_validate_json(metadata["pretraining_config"]) == CONFIG
    assert torchvision.models.resnet18().load_state_dict(load_file(path), strict=False).missing_keys == [
        "fc.weight",
        "fc.bias",
    ]
    module, example = run.models["backbone"]
    assert len(example) >= 2
    assert module(example).shape == (len(example), 512)
    figures = json.loads((run.output_dir / "metrics.json").read_text(encoding="utf-8"))
    assert figures["feature_size"] == 512
    assert figures["num_parameters"] == 11_176_512  # torchvision's resnet18 without its fc


def test_a_missing_captioner_is_named(run: RecordingRun) -> None:
    with pytest.raises(InputError, match=r"captioner\.safetensors: no such file"):
        export.main(run)


def test_a_damaged_captioner_leaves_the_old_backbone(run: RecordingRun) -> None:
    paths.CAPTIONER.parent.mkdir(parents=True)
    paths.CAPTIONER.write_bytes(b"damaged")
    paths.BACKBONES_DIR.mkdir(parents=True)
    paths.backbone_path("virtex").write_bytes(b"old")
    with pytest.raises(InputError, match="not a whole safetensors file"):
        export.main(run)
    assert paths.backbone_path("virtex").read_bytes() == b"old"


def test_the_same_captioner_gives_the_same_bytes(run: RecordingRun) -> None:
    torch.manual_seed(0)
    save_captioner(paths.CAPTIONER, build_objective(CONFIG), CONFIG)
    export.main(run)
    first = paths.backbone_path("virtex").read_bytes()
    export.main(run)
    assert paths.backbone_path("virtex").read_bytes() == first
    with safetensors.safe_open(paths.backbone_path("virtex"), framework="pt") as file:
        assert len(file.metadata()["captioner_tensors_sha256"]) == 64
