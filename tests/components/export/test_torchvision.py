import pytest
import torch
import torchvision
from torch import nn

from components.export.backbone import pooled_features
from components.export.torchvision import export_torchvision


def test_torchvision_loads_all_but_its_classifier(resnet18, metadata, tmp_path):
    path = tmp_path / "x.pth"
    export_torchvision(resnet18, metadata, path)
    loaded = torchvision.models.resnet18()
    report = loaded.load_state_dict(torch.load(path, weights_only=True), strict=False)
    assert (report.missing_keys, report.unexpected_keys) == (["fc.weight", "fc.bias"], [])
    loaded.fc = nn.Identity()
    images = torch.randn(2, 3, 96, 64)
    torch.testing.assert_close(loaded.eval()(images), pooled_features(resnet18, images))


def test_a_wrong_architecture_leaves_the_old_file(resnet18, metadata, tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="size mismatch"):
        export_torchvision(resnet18, metadata | {"architecture": "resnet50"}, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
