import sys

import pytest
import torch

from components.core.errors import InputError
from components.export.backbone import pooled_features
from components.export.timm import export_timm


def test_timm_loads_the_file_as_a_checkpoint(resnet18, metadata, tmp_path):
    timm = pytest.importorskip("timm")
    path = tmp_path / "x.safetensors"
    export_timm(resnet18, metadata, path)
    loaded = timm.create_model("resnet18", num_classes=0, checkpoint_path=str(path)).eval()
    images = torch.randn(2, 3, 96, 64)
    torch.testing.assert_close(loaded(images), pooled_features(resnet18, images), rtol=1e-4, atol=1e-5)


def test_without_timm_it_says_what_to_install(resnet18, metadata, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"the timm format needs timm .*pip install .*\.\[export\]"):
        export_timm(resnet18, metadata, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())
