from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from components.core import paths
from components.core.errors import InputError
from components.models.backbones import example_images, export_backbone, load_backbone, pooled_features


@pytest.mark.parametrize(("architecture", "feature_size"), [("resnet18", 512), ("resnet50", 2048)])
def test_round_trip(trained_resnet, architecture: str, feature_size: int, tmp_path: Path) -> None:
    cnn, path = trained_resnet(architecture), tmp_path / "virtex.safetensors"
    written = export_backbone(cnn, path, architecture, "virtex", {"objective": "bicaptioning"})
    backbone, metadata = load_backbone(path)
    assert metadata == written
    assert metadata["feature_size"] == str(feature_size)
    assert metadata["objective"] == "bicaptioning"
    assert not backbone.training
    images = torch.randn(2, 3, 50, 70)
    features = backbone(images)
    assert features.shape == (2, feature_size)
    torch.testing.assert_close(features, pooled_features(cnn.eval(), images))


def test_a_plain_torchvision_resnet_takes_the_file(trained_resnet, tmp_path: Path) -> None:
    cnn, path = trained_resnet("resnet18"), tmp_path / "virtex.safetensors"
    export_backbone(cnn, path, "resnet18", "virtex")
    plain = torchvision.models.resnet18()
    result = plain.load_state_dict(load_file(path), strict=False)
    assert result.missing_keys == ["fc.weight", "fc.bias"]
    assert result.unexpected_keys == []
    plain.fc = nn.Identity()
    images = example_images()
    torch.testing.assert_close(plain.eval()(images), pooled_features(cnn.eval(), images))


def test_export_leaves_the_network_as_it_was(trained_resnet, tmp_path: Path) -> None:
    cnn = trained_resnet("resnet18").to(memory_format=torch.channels_last).train()
    export_backbone(cnn, tmp_path / "virtex.safetensors", "resnet18", "virtex")
    assert cnn.training
    assert cnn.bn1.num_batches_tracked == 7


def test_a_network_of_another_architecture_leaves_the_old_file(trained_resnet, tmp_path: Path) -> None:
    path = tmp_path / "virtex.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(InputError, match="not those of torchvision's resnet34"):
        export_backbone(trained_resnet("resnet18"), path, "resnet34", "virtex")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_refuses_an_unknown_architecture(trained_resnet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'vgg16' is not a torchvision ResNet"):
        export_backbone(trained_resnet("resnet18"), tmp_path / "x", "vgg16", "virtex")


@pytest.fixture(scope="module")
def exported(trained_resnet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "virtex.safetensors"
    export_backbone(trained_resnet("resnet18"), path, "resnet18", "virtex")
    return path


def test_refuses_a_backbone_with_a_flipped_bit(exported: Path, tmp_path: Path) -> None:
    content = bytearray(exported.read_bytes())
    content[len(content) // 2] ^= 64
    path = tmp_path / "flipped.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"flipped\.safetensors: damaged"):
        load_backbone(path)


def test_takes_a_backbone_of_before_there_were_digests(exported: Path, tmp_path: Path) -> None:
    backbone, metadata = load_backbone(exported)
    state = {name: tensor for name, tensor in backbone.state_dict().items() if not name.startswith("fc.")}
    save_file(state, tmp_path / "older.safetensors", metadata)
    older, found = load_backbone(tmp_path / "older.safetensors")
    assert found == metadata
    torch.testing.assert_close(older.state_dict(), backbone.state_dict())


def test_refuses_missing_damaged_and_foreign_files(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such backbone"):
        load_backbone(tmp_path / "absent.safetensors")

    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(exported.read_bytes()[:-1000])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_backbone(damaged)

    garbage = tmp_path / "garbage.safetensors"
    garbage.write_bytes(b"\x80\x04pickle" * 100)
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_backbone(garbage)

    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign, metadata={"format": "pt"})
    with pytest.raises(InputError, match="expected a virtex-backbone file of version 1"):
        load_backbone(foreign)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "resnet34"}, "not those of torchvision's resnet34"),
        ({"architecture": "os.system"}, "'os.system' in its metadata is not one of"),
        ({"feature_size": "2048"}, "resnet18 has 512"),
        ({"version": "2"}, "version 1"),
    ],
)
def test_refuses_metadata_that_do_not_fit(
    exported: Path, change: dict[str, str], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "virtex.safetensors"
    save_file(load_file(exported), path, metadata={**load_backbone(exported)[1], **change})
    with pytest.raises(InputError, match=message):
        load_backbone(path)


def test_the_lines_of_the_readme_load_it(
    trained_resnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    resnet18 = trained_resnet("resnet18").eval()
    export_backbone(resnet18, paths.backbone_path("virtex"), "resnet18", "virtex")
    readme = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(readme.partition("```python\n")[2].partition("```")[0], names)
    torch.testing.assert_close(
        names["backbone"](example_images()), pooled_features(resnet18, example_images())
    )
