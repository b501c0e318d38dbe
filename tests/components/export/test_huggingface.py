import json

import pytest
import torch
from PIL import Image

from components.export.backbone import pooled_features
from components.export.huggingface import FILES, export_huggingface

timm = pytest.importorskip("timm")


def test_timm_loads_the_folder_and_prepares_images_as_we_do(resnet18, metadata, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "exports" / "my_model"
    export_huggingface(resnet18, metadata, path)
    assert {file.name for file in path.iterdir()} == FILES
    assert list(path.parent.iterdir()) == [path]
    assert len({file.stat().st_mode for file in path.iterdir()}) == 1

    model = timm.create_model(f"local-dir:{path}", pretrained=True).eval()
    images = torch.randn(2, 3, 96, 64)
    torch.testing.assert_close(model(images), pooled_features(resnet18, images), rtol=1e-4, atol=1e-5)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    gray = transform(Image.new("RGB", (400, 300), (124, 116, 104)))
    assert gray.shape == (3, 224, 224)
    assert gray.abs().max() < 0.02  # ImageNet's mean colour
    assert json.loads((path / "config.json").read_text(encoding="utf-8"))["architecture"] == "resnet18"
    assert "# my_model" in (path / "README.md").read_text(encoding="utf-8")


def test_an_old_folder_is_replaced(resnet18, metadata, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x"
    path.mkdir()
    (path / "old.txt").write_text("old")
    export_huggingface(resnet18, metadata, path)
    assert not (path / "old.txt").exists()
