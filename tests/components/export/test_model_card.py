import json

import pytest

from components import params
from components.core import paths
from components.core.files import write_json
from components.export.model_card import model_card
from components.objectives.build import ModelConfig


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def virtex(metadata):
    config = ModelConfig(
        backbone=params.Backbone(name="resnet18", zero_init_residual=False),
        textual_head=params.TextualHead(
            hidden_size=256,
            num_layers=1,
            attention_heads=None,
            feedforward_size=None,
            norm="post",
            dropout=0.1,
            max_caption_length=30,
        ),
        objective=params.Objective(name="bicaptioning"),
        vocab_size=200,
    )
    return metadata | {"objective": "bicaptioning", "pretraining_config": config.model_dump_json()}


def rows(card: str) -> set[tuple[str, ...]]:
    return {
        tuple(cell.strip() for cell in line[2:-2].split(" | "))
        for line in card.splitlines()
        if line[:2] == "| "
    }


def test_what_the_run_measured(virtex):
    write_json(paths.DATASETS_MANIFEST, {"source": "folders", "captions": {"coco": {}, "flickr8k": {}}})
    write_json(paths.stage_dir("lmdb", "train") / "metrics.json", {"images": 7021, "captions": 35109})
    write_json(
        paths.stage_dir("pretrain") / "metrics.json",
        {"iterations": 1600, "val_loss": 6.3812, "started_from": "/home/me/theirs.pth"},
    )
    write_json(paths.stage_dir("voc07", "virtex") / "metrics.json", {"mAP": 26.71})
    write_json(paths.stage_dir("voc07", "random") / "metrics.json", {"mAP": 16.9})
    write_json(paths.stage_dir("caption") / "metrics.json", {"CIDEr-D": 12.34})
    card = model_card(virtex, "my_model")
    assert rows(card) >= {
        ("Task", "bicaptioning"),
        ("Textual head", "L1 H256, post-norm"),
        ("Started from", "theirs.pth"),
        ("Data", "coco, flickr8k"),
        ("Images", "7,021"),
        ("Validation loss", "6.381"),
        ("VOC07 linear SVMs", "mAP", "26.7", "16.9"),
        ("Captioning", "CIDEr-D", "12.3", ""),
    }
    assert "drawn shapes" not in card
    assert "@inproceedings{desai2021virtex," in card
    assert 'timm.create_model("local-dir:my_model"' in card
    assert card.startswith("---\nlibrary_name: timm\n")


def test_a_linear_objective_has_no_textual_head(virtex):
    assert "Textual head" not in model_card(virtex | {"objective": "idf_token_classification"}, "x")


def test_another_backbone_has_its_own_figures_only(metadata):
    write_json(paths.stage_dir("voc07", "random") / "metrics.json", {"mAP": 16.9})
    write_json(paths.stage_dir("caption") / "metrics.json", {"CIDEr-D": 12.34})
    card = model_card(metadata | {"source": "random"}, "x")
    assert ("VOC07 linear SVMs", "mAP", "16.9", "") in rows(card)
    assert "CIDEr-D" not in card
    assert "Its weights are random." in card


def test_nothing_is_made_up(metadata):
    theirs = {key: value for key, value in metadata.items() if key != "source"} | {
        "weights": "/home/me/moco.pth"
    }
    card = model_card(theirs, "x")
    assert "None measured by the run that made it." in card
    assert "Its weights: moco.pth." in card
    assert "Not stated in the file" in card
    assert "license:" not in card.split("---")[1]
    paths.stage_dir("voc07", "virtex").mkdir(parents=True)
    (paths.stage_dir("voc07", "virtex") / "metrics.json").write_text(json.dumps({"mAP": "high"}))
    assert "None measured" in model_card(metadata, "x")


def test_drawn_shapes_are_called_so(virtex):
    write_json(paths.DATASETS_MANIFEST, {"source": "drawn_world", "captions": {"coco": {}}})
    write_json(paths.stage_dir("voc07", "virtex") / "metrics.json", {"mAP": 26.71})
    card = model_card(virtex, "x")
    assert ("VOC07 linear SVMs, drawn world (VOC2007 layout)", "mAP", "26.7", "") in rows(card)
    assert "- It has seen drawn shapes only and is no backbone for photographs." in card


def test_the_resolution_is_told_where_it_is_known(virtex):
    assert "pixels" not in model_card(virtex, "x")
    card = model_card(virtex | {"resolution": "96"}, "x")
    assert ("Resolution, pixels", "96") in rows(card)
    assert "crops of 96 x 96 pixels" in card
