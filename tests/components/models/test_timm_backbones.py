"""Networks of timm as backbones: maps and tokens alike, files that restore them, names that are refused."""

from pathlib import Path

import pytest
import torch

from components.core.errors import InputError
from components.models.backbones import build_backbone, export_backbone, load_backbone, require_detectable
from components.models.timm_backbones import TimmBackbone, layout_of

SMALL = ("timm/test_convnext", "timm/test_vit", "timm/test_resnet")


@pytest.mark.parametrize(
    ("name", "size", "grid"),
    [
        ("timm/test_convnext", (64, 96), (2, 3)),
        ("timm/test_vit", (64, 96), (4, 6)),
        ("timm/test_vit", (50, 40), (4, 3)),  # filled up to whole patches
        ("timm/test_resnet", (48, 64), (2, 2)),
    ],
)
def test_a_feature_map_of_any_image_and_its_mean(
    name: str, size: tuple[int, int], grid: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    backbone = TimmBackbone(name).eval()
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        features = backbone(images)
        assert features.shape == (2, backbone.feature_size, *grid)
        torch.testing.assert_close(backbone.cnn(images), features.mean(dim=(2, 3)))


def test_tokens_lie_in_the_map_where_their_patches_lie() -> None:
    layout = layout_of("timm/test_vit")
    assert (layout.order, layout.stride, layout.prefix_tokens) == ("NLC", 16, 1)
    tokens = torch.arange(7.0)[None, :, None].expand(1, 7, 64)  # the class token is 0
    assert layout.feature_map(tokens, 32, 48)[0, 5].tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    assert layout.pooled(tokens)[0, 0] == 3.5


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_is_trained(name: str) -> None:
    """What timm has behind the features would be none, and processes wait for all gradients."""
    backbone = TimmBackbone(name)
    backbone(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert [key for key, value in backbone.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize("name", SMALL)
def test_a_file_restores_the_features(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    backbone, path = build_backbone(name).eval(), tmp_path / "virtex.safetensors"
    written = export_backbone(backbone.cnn, path, name, "virtex")
    loaded, metadata = load_backbone(path)
    assert metadata == written
    assert (metadata["architecture"], metadata["feature_size"]) == (name, str(backbone.feature_size))
    images = torch.randn(2, 3, 48, 80)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), backbone(images).mean(dim=(2, 3)))


def test_stochastic_depth_is_the_parameters_and_drops_nothing_in_eval_mode() -> None:
    torch.manual_seed(0)
    plain, dropping = TimmBackbone("timm/test_vit"), TimmBackbone("timm/test_vit", drop_path=0.9)
    dropping.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(plain.train()(images), plain.eval()(images))
    torch.testing.assert_close(dropping.eval()(images), plain(images))
    assert not torch.allclose(dropping.train()(images), plain(images))
    with pytest.raises(InputError, match=r"backbone\.drop_path: 0\.1, but torchvision's resnet18 has none"):
        build_backbone("resnet18", drop_path=0.1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/convnext_tini", "the nearest of its [0-9]+: timm/convnext_tiny, "),
        (
            "timm/convnext_tiny.fb_in1k",
            "'fb_in1k' names weights.*name the network alone, 'timm/convnext_tiny'",
        ),
        ("timm/volo_d1_224", "does not take images of any size"),
        ("timm/crossvit_9_240", "no map and no grid of tokens"),
        ("convnext_tiny", "not a torchvision ResNet.*any network of timm"),
    ],
)
def test_other_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_backbone(name)


def test_detection_needs_a_pyramid() -> None:
    for name in ("resnet18", "timm/test_convnext", "timm/test_resnet"):
        require_detectable(name)
    with pytest.raises(
        InputError, match=r"test_vit' has no feature maps.*set benchmarks\.detection_backbones to"
    ):
        require_detectable("timm/test_vit")
