import pytest
import torch
import torchvision
from torch import nn

from components.core.errors import InputError
from components.models.backbones import TorchvisionBackbone, backbone_names


def test_known_names_are_classification_resnets() -> None:
    names = backbone_names()
    assert {"resnet18", "resnet50", "resnet101", "wide_resnet50_2"} <= set(names)
    assert all("fcn" not in name and "rcnn" not in name for name in names)


@pytest.mark.parametrize(
    ("name", "feature_size"),
    [("resnet18", 512), ("resnet50", 2048), ("resnet101", 2048), ("wide_resnet50_2", 2048)],
)
def test_feature_map_has_a_32nd_of_the_resolution(name: str, feature_size: int) -> None:
    with torch.device("meta"):
        backbone = TorchvisionBackbone(name)
        features = backbone(torch.empty(2, 3, 96, 64))
    assert backbone.feature_size == feature_size
    assert features.shape == (2, feature_size, 3, 2)
    assert isinstance(backbone.cnn.fc, nn.Identity)
    assert isinstance(backbone.cnn.avgpool, nn.Identity)


def test_features_are_those_torchvision_pools() -> None:
    torch.manual_seed(0)
    backbone = TorchvisionBackbone("resnet18", zero_init_residual=False).eval()
    plain = torchvision.models.resnet18(weights=None).eval()
    plain.fc = nn.Identity()
    plain.load_state_dict(backbone.cnn.state_dict())
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone(image).mean(dim=(2, 3)), plain(image))


@pytest.mark.parametrize("zero", [True, False])
def test_zero_init_residual(zero: bool) -> None:
    backbone = TorchvisionBackbone("resnet18", zero_init_residual=zero)
    assert backbone.cnn.layer3[1].bn2.weight.count_nonzero().item() == (0 if zero else 256)


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'resnet_50'.*did you mean 'resnet50'"):
        TorchvisionBackbone("resnet_50")
