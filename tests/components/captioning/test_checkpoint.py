import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from components.captioning.captioner import Captioner
from components.captioning.checkpoint import open_captioner
from components.core.errors import InputError
from components.objectives.build import ModelConfig, build_objective
from components.objectives.saved import Preprocessing, copy_captioner, save_captioner
from components.text.tokenizer import train_tokenizer

ConfigMaker = Callable[..., ModelConfig]
AUTHORS = {"image_size": 256, "crop_size": 224, "antialias": False}
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def authors(tmp_path: Path, captioner: Captioner) -> Path:
    """The captioner's weights in a file as the original authors' code writes it."""
    path = tmp_path / "bicaptioning_R_18.pth"
    torch.save({"model": captioner.objective.state_dict(), "iteration": 7}, path)
    return path


def test_one_file_captions_anywhere(
    captioner_path: Path, captioner: Captioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(captioner_path, tmp_path / "moved.safetensors")
    monkeypatch.chdir(tmp_path)
    moved = open_captioner("moved.safetensors", "cpu")
    assert vars(moved.transform) == {"image_size": 64, "crop_size": 64, "antialias": True}
    assert moved.search(IMAGES) == captioner.search(IMAGES)


def test_a_file_remembers_at_which_scale_it_captions(
    captioner_path: Path, captioner: Captioner, tmp_path: Path
) -> None:
    copy_captioner(captioner_path, tmp_path / "copy.safetensors", 73, False)
    copied = open_captioner(str(tmp_path / "copy.safetensors"), "cpu")
    assert vars(copied.transform) == {"image_size": 73, "crop_size": 64, "antialias": False}
    assert copied.search(IMAGES) == captioner.search(IMAGES)


def test_an_authors_file_needs_a_tokenizer(authors: Path, tokenizer_path: Path, captioner: Captioner) -> None:
    loaded = open_captioner(str(authors), "cpu", tokenizer_path)
    assert vars(loaded.transform) == AUTHORS
    assert loaded.search(IMAGES) == captioner.search(IMAGES)
    with pytest.raises(InputError, match=r"R_18\.pth: holds no tokenizer; .*--tokenizer"):
        open_captioner(str(authors), "cpu")


def test_a_captioner_file_without_tokenizer(
    tmp_path: Path, make_config: ConfigMaker, tokenizer_path: Path
) -> None:
    path = tmp_path / "captioner.safetensors"
    save_captioner(path, build_objective(make_config("captioning")), make_config("captioning"))
    with pytest.raises(InputError, match="holds no tokenizer"):
        open_captioner(str(path), "cpu")
    assert vars(open_captioner(str(path), "cpu", tokenizer_path).transform) == AUTHORS


def test_another_tokenizer_is_refused(captioner_path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.model"
    train_tokenizer(["a red dog", "two cats"], 24, other)
    with pytest.raises(InputError, match=r"other\.model has 24 pieces, and .* was trained with 60"):
        open_captioner(str(captioner_path), "cpu", other)


@pytest.mark.parametrize("name", ["masked_lm", "token_classification"])
def test_a_model_that_writes_no_captions(
    name: str, tmp_path: Path, make_config: ConfigMaker, tokenizer_path: Path
) -> None:
    objective = build_objective(make_config(name))
    ours, authors = tmp_path / "captioner.safetensors", tmp_path / f"{name}_R_18.pth"
    save_captioner(ours, objective, make_config(name), Preprocessing(64, tokenizer_path.read_bytes()))
    torch.save({"model": objective.state_dict()}, authors)
    for path in (ours, authors):
        with pytest.raises(InputError, match=f"a model of {name} writes no captions"):
            open_captioner(str(path), "cpu", tokenizer_path)


def test_forward_captioning_is_told_without_asking(
    tmp_path: Path, make_config: ConfigMaker, tokenizer_path: Path
) -> None:
    path = tmp_path / "checkpoint_500000.pth"
    torch.save({"model": build_objective(make_config("captioning")).state_dict()}, path)
    open_captioner(str(path), "cpu", tokenizer_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.safetensors", "no such file"),
        ("bicaptioning_R_50_L1_H2084", r"neither a file nor a published model.*bicaptioning_R_50_L1_H2048"),
    ],
)
def test_unknown_checkpoints(source: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_captioner(source, "cpu")
