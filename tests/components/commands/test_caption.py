import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from components.commands import caption
from components.core import paths
from components.core.errors import InputError
from components.core.files import write_json
from components.objectives.build import ModelConfig, build_objective
from components.objectives.saved import Preprocessing, save_captioner
from components.text.tokenizer import train_tokenizer

CONFIG = {
    "backbone": {"name": "resnet18", "zero_init_residual": False},
    "textual_head": {
        "hidden_size": 16, "num_layers": 1, "attention_heads": 2, "feedforward_size": 32,
        "norm": "post", "dropout": 0.1, "max_caption_length": 8,
    },
    "objective": {"name": "captioning"},
    "vocab_size": 40,
}  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a pretrained captioner, a folder of two images, and one broken file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIRTEX_DEVICE", "cpu")
    train_tokenizer(["a red circle on the left", "two naïve green stars"], 40, tmp_path / "captions.model")
    config = ModelConfig.model_validate(CONFIG)
    torch.manual_seed(0)
    preprocessing = Preprocessing(32, (tmp_path / "captions.model").read_bytes())
    save_captioner(paths.CAPTIONER, build_objective(config), config, preprocessing)
    (tmp_path / "images").mkdir()
    for index, name in enumerate(("é.png", "z.png")):
        pixels = np.random.default_rng(index).integers(0, 255, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / name)
    (tmp_path / "broken.jpg").write_bytes(b"not an image")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["caption", *arguments])
    return caption.main()


@pytest.mark.integration
def test_as_a_command_it_captions_a_folder_and_skips_what_is_no_image(workspace: Path) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "caption", "images", "broken.jpg", "--json"]
    ended = subprocess.run(
        [*command, "--attention", "looks", "--num-captions", "2"], capture_output=True, text=True
    )
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.startswith("virtex: skipped broken.jpg: not an image")
    entries = json.loads(ended.stdout)
    assert [entry["image"] for entry in entries] == ["images/z.png", "images/é.png", "broken.jpg"]
    assert [entry.get("attention") for entry in entries] == ["looks/z.png", "looks/é.png", None]
    assert "not an image" in entries[2]["error"]
    for entry in entries[:2]:
        assert [set(row) for row in entry["captions"]] == [{"caption", "log_probability"}] * 2
        assert 0 > entry["captions"][0]["log_probability"] >= entry["captions"][1]["log_probability"]
        assert Image.open(entry["attention"]).format == "PNG"


def test_for_people(workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert run(monkeypatch, "images/z.png") == 0
    path, line = capsys.readouterr().out.splitlines()
    assert path == "images/z.png"
    assert float(line.split()[0]) < 0
    assert run(monkeypatch, "images/z.png", "--json") == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert line.split()[1:] == entry["captions"][0]["caption"].split()


def test_a_model_of_the_drawn_world_is_said_to_know_no_photographs(workspace, monkeypatch, capsys) -> None:
    for source, is_told in (("published", False), ("drawn_world", True)):
        write_json(paths.DATASETS_MANIFEST, {"source": source})
        assert run(monkeypatch, "images/z.png", "--json") == 0
        printed = capsys.readouterr()
        assert ("knows its shapes only" in printed.err) == is_told
        assert json.loads(printed.out)
    assert run(monkeypatch, "images/z.png", "--checkpoint", str(paths.CAPTIONER)) == 0
    assert capsys.readouterr().err == ""


def test_sampling_follows_the_seed(workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    outputs = []
    for seed in ("3", "3", "4"):
        run(monkeypatch, "images", "--nucleus", "--num-captions", "3", "--seed", seed, "--top-p", "1")
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]
    assert len(outputs[0].splitlines()) == 2 * (1 + 3)


def test_a_wide_choice_widens_the_beam(workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    run(monkeypatch, "images/z.png", "--num-captions", "7")
    assert len(capsys.readouterr().out.splitlines()) == 8
    with pytest.raises(InputError, match="7 captions per image need a beam of at least 7, not 3"):
        run(monkeypatch, "images/z.png", "--num-captions", "7", "--beam-size", "3")


def test_without_a_checkpoint_it_says_what_to_do(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = paths.CAPTIONER.rename(workspace / "elsewhere.safetensors")
    with pytest.raises(InputError, match="run `virtex run` in the repository first, or name a model"):
        run(monkeypatch, "images")
    assert run(monkeypatch, "images", "--checkpoint", str(model)) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "IMAGE"),
        (["x.png", "--nucleus", "--beam-size", "3"], "--beam-size applies to beam search"),
        (["x.png", "--seed", "3"], "--top-p and --seed need --nucleus"),
        (["x.png", "--num-captions", "0"], "at least 1"),
        (["x.png", "--attention", __file__], "is a file; expected a folder"),
        (["x.png", "--attention", f"{__file__}/below/it"], "test_caption.py is a file; expected a folder"),
    ],
)
def test_arguments_that_make_no_sense(
    monkeypatch: pytest.MonkeyPatch, capsys, arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
