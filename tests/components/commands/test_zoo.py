"""`virtex zoo` on small checkpoints in the authors' layout."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
import torchvision

from components import params
from components.core import paths
from components.models.backbones import load_backbone, pooled_features
from components.models.decoding import beam_search
from components.objectives.build import ModelConfig, build_objective
from components.objectives.saved import Preprocessing, load_captioner, load_preprocessing
from components.text.tokenizer import train_tokenizer

REPOSITORY = Path(__file__).resolve().parents[3]
PIECES = 30


@pytest.fixture(autouse=True)
def _workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "params.yaml").symlink_to(REPOSITORY / "params.yaml")
    (tmp_path / "presets").symlink_to(REPOSITORY / "presets")


@pytest.fixture
def zoo(monkeypatch, capsys):
    """Run the command in this process; gives exit status, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["virtex zoo", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            runpy.run_module("components.commands.zoo", run_name="__main__")
        return caught.value.code, *capsys.readouterr()

    return run


def checkpoint(path: Path, objective: str):
    """What the authors' training code would have saved of a small model."""
    config = ModelConfig(
        backbone=params.Backbone(name="resnet18", zero_init_residual=True),
        textual_head=params.TextualHead(
            hidden_size=64,
            num_layers=1,
            attention_heads=None,
            feedforward_size=None,
            norm="post",
            dropout=0.1,
            max_caption_length=30,
        ),
        objective=params.Objective.model_validate({"name": objective}),
        vocab_size=PIECES,
    )
    torch.manual_seed(0)
    model = build_objective(config).eval()
    torch.save({"model": model.state_dict(), "iteration": 500000}, path)
    return model


def test_list_and_show(zoo):
    code, out, _ = zoo("list")
    assert code == 0
    assert ["bicaptioning_R_101_L1_H1024", "88.7", "52.1"] in [line.split() for line in out.splitlines()]
    code, out, _ = zoo("show", "bicaptioning_R_50_L1_H2048")
    assert "coco/bicaptioning_R_50_L1_H2048" in out
    assert ["COCO", "detection", "and", "segmentation,", "box", "AP", "40.9", "%"] in map(
        str.split, out.splitlines()
    )
    assert "CIDEr" not in out
    code, out, _ = zoo("show", "bicaptioning_R_101_L1_H1024")
    assert ["Captioning,", "CIDEr-D", "94.0", "%"] in map(str.split, out.splitlines())
    assert "its ResNet-101 model's" in out
    assert zoo("show", "captioning_R50_L1_H2048")[0] == 2


def test_list_and_show_for_programs(zoo):
    listed = json.loads(zoo("list", "--json")[1])
    (model,) = [model for model in listed if model["name"] == "bicaptioning_R_50_L1_H2048"]
    assert model["figures"]["voc07.mAP"] == 88.7
    assert (model["hidden_size"], model["preset"]) == (2048, "coco/bicaptioning_R_50_L1_H2048")
    assert json.loads(zoo("show", "bicaptioning_R_50_L1_H2048", "--json")[1]) == model


def test_an_imported_captioner_is_a_backbone_and_a_model(zoo, tmp_path):
    model = checkpoint(tmp_path / "bicaptioning_R-18.pth", "bicaptioning")
    code, out, _ = zoo("import", "bicaptioning_R-18.pth")
    assert code == 0
    assert "benchmarks.backbones=[virtex, random, bicaptioning_R_18]" in out
    images = torch.randn(2, 3, 64, 64)
    backbone, metadata = load_backbone(paths.backbone_path("bicaptioning_R_18"))
    torch.testing.assert_close(backbone(images), pooled_features(model.visual.cnn, images))
    assert metadata["weights"] == "bicaptioning_R-18.pth"
    loaded, config = load_captioner(paths.captioner_path("bicaptioning_R_18"))
    found, expected = (beam_search(m.textual, m.visual(images)).tokens for m in (loaded, model))
    assert torch.equal(found, expected)
    assert config.vocab_size == PIECES
    assert load_preprocessing(paths.captioner_path("bicaptioning_R_18")) is None


def test_a_tokenizer_makes_a_file_that_captions_alone(zoo, tmp_path):
    checkpoint(tmp_path / "x.pth", "captioning")
    words = [f"a {colour} {thing} here" for colour in ("red", "blue") for thing in ("dog", "cat", "car")]
    train_tokenizer(words * 5, PIECES, tmp_path / "t.model")
    code, _, err = zoo("import", "x.pth", "--name", "mine")
    assert (code, "--objective captioning" in err) == (2, True)
    options = ("--name", "mine", "--objective", "captioning", "--tokenizer", "t.model")
    assert zoo("import", "x.pth", *options)[0] == 0
    preprocessing = load_preprocessing(paths.captioner_path("mine"))
    model = (tmp_path / "t.model").read_bytes()
    assert preprocessing == Preprocessing(224, model, image_size=256, antialias=False)


def test_a_torchvision_file_is_a_backbone_only(zoo, tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "supervised.pth")
    code, _, _ = zoo("import", "supervised.pth")
    assert code == 0
    assert paths.exported_backbones() == ["supervised"]
    assert not paths.CAPTIONERS_DIR.exists()
    code, _, err = zoo("import", "supervised.pth", "--tokenizer", "t.model")
    assert (code, "a backbone alone writes no captions" in err) == (2, True)


@pytest.mark.parametrize("name", ["virtex", "random", "a/b"])
def test_names_that_the_pipeline_makes_itself(zoo, tmp_path, name):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "x.pth")
    code, _, err = zoo("import", "x.pth", "--name", name)
    assert (code, f"--name {name}" in err) == (2, True)
    assert not paths.BACKBONES_DIR.exists()
