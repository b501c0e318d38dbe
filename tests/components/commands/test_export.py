"""`virtex export`; the formats themselves are tested in tests/components/export."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
import torchvision

from components.core import paths
from components.export.formats import FORMATS
from components.models.backbones import export_backbone


@pytest.fixture(autouse=True)
def _workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    export_backbone(torchvision.models.resnet18(), paths.backbone_path("virtex"), "resnet18", "virtex")


@pytest.fixture
def export(monkeypatch, capsys):
    """Run the command in this process; gives exit status, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["virtex export", *arguments])
        with pytest.raises(SystemExit) as caught:
            runpy.run_module("components.commands.export", run_name="__main__")
        return caught.value.code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"onnx"}))
def test_the_path_is_printed(export, name):
    code, out, err = export("--format", name)
    assert (code, err) == (0, "")
    path = Path(out.strip())
    assert path == paths.EXPORTS_DIR / f"virtex{FORMATS[name].ending}"
    assert path.exists()


def test_where_and_what_is_the_users_choice(export, tmp_path):
    theirs = torchvision.models.resnet34().state_dict()
    torch.save({f"module.encoder_q.{name}": tensor for name, tensor in theirs.items()}, tmp_path / "moco.pth")
    code, out, _ = export("--checkpoint", "moco.pth", "--format", "torchvision", "--output", "a/b.pth")
    assert (code, out) == (0, "a/b.pth\n")
    written = torch.load("a/b.pth", weights_only=True)
    assert torch.equal(written["layer2.3.conv1.weight"], theirs["layer2.3.conv1.weight"])


@pytest.mark.parametrize(("architecture", "size"), [("resnet18", 512), ("resnet50", 2048)])
def test_the_card_of_a_checkpoint_has_its_feature_size_and_no_secret(
    export, file_server, tmp_path, monkeypatch, architecture, size
):
    pytest.importorskip("timm")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    torch.save(torchvision.models.get_model(architecture).state_dict(), file_server.folder / "x.pth")
    url = f"{file_server.url}/x.pth?token=hidden"
    code, out, err = export("--checkpoint", url, "--format", "huggingface")
    assert (code, err.count("error")) == (0, 0)
    card = Path(out.strip(), "README.md").read_text(encoding="utf-8")
    assert f"`(batch, {size})`" in card
    assert f"Its weights: {file_server.url}/x.pth." in card


@pytest.mark.parametrize(
    ("name", "place"), [("huggingface", "mine"), ("torchvision", "mine"), ("huggingface", "mine/notes.txt")]
)
def test_what_is_the_users_own_is_not_replaced(export, name, place):
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("kept")
    code, _, err = export("--format", name, "--output", place)
    assert (code, f"--output {place}: a f" in err) == (2, True)
    assert Path("mine/notes.txt").read_text() == "kept"


def test_an_earlier_export_is_replaced(export):
    pytest.importorskip("timm")
    for _ in range(2):
        assert export("--format", "huggingface", "--output", "model")[0] == 0


def test_a_captioner_has_a_format_of_its_own(export):
    code, _, err = export("--captioner", "--format", "timm")
    assert (code, "--format mlflow" in err) == (2, True)
    code, _, err = export("--captioner", "--format", "mlflow")
    assert (code, "captioner.safetensors" in err) == (2, True)


def test_a_wrong_name_is_told_the_nearest(export):
    code, _, err = export("--backbone", "virtx", "--format", "timm")
    assert (code, "did you mean `virtex`" in err) == (2, True)


@pytest.mark.parametrize("output", ["taken/x.pth", "taken/a/b/x.pth"])
def test_a_place_below_a_file_is_refused(export, tmp_path, output):
    (tmp_path / "taken").write_text("mine")
    code, out, err = export("--format", "torchvision", "--output", output)
    assert (code, out) == (2, "")
    assert "--output: taken is a file; expected a folder" in err


def test_a_place_that_cannot_be_written_is_one_line(export, tmp_path):
    code, out, err = export("--format", "torchvision", "--output", f"{'x' * 250}/{'y' * 300}.pth")
    assert (code, out) == (2, "")
    assert err.startswith("virtex: error: ")
    assert err.endswith("File name too long; make it usable, or name another place\n")
