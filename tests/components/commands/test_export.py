"""`virtex export`; the formats themselves are tested in tests/components/export."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
import torchvision

from components import paths
from components.export.backbone import export_backbone
from components.export.formats import FORMATS


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


def test_a_wrong_name_is_told_the_nearest(export):
    code, _, err = export("--backbone", "virtx", "--format", "timm")
    assert (code, "did you mean `virtex`" in err) == (2, True)
