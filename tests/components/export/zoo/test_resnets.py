import pytest
import torch
import torchvision
from torch import Tensor

from components.core.errors import InputError
from components.export.zoo.resnets import find_resnet
from components.models.backbones import backbone_names


def shapes_only(name: str) -> dict[str, Tensor]:
    """A state dict of torchvision that needs no memory: every tensor repeats one zero."""
    with torch.device("meta"):
        state = torchvision.models.get_model(name, weights=None).state_dict()
    return {key: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape) for key, tensor in state.items()}


@pytest.fixture(scope="module")
def resnet18() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return torchvision.models.resnet18().state_dict()


@pytest.mark.parametrize("name", backbone_names())
def test_every_architecture_is_told_by_its_shapes(name: str) -> None:
    assert find_resnet(shapes_only(name), "x.pth").architecture == name


@pytest.mark.parametrize("prefix", ["", "visual.cnn.", "module.encoder_q.", "module.", "backbone."])
def test_prefixes(resnet18: dict[str, Tensor], prefix: str) -> None:
    others = {"module.encoder_k.layer1.0.conv1.weight": torch.zeros(1), "queue": torch.zeros(2)}
    tensors = {f"{prefix}{name}": tensor for name, tensor in resnet18.items()}
    found = find_resnet(tensors | others if prefix == "module.encoder_q." else tensors, "x.pth")
    assert found.prefix == prefix
    images = torch.randn(2, 3, 64, 64)
    expected = torchvision.models.resnet18()
    expected.load_state_dict(resnet18)
    expected.fc = torch.nn.Identity()
    with torch.no_grad():
        features = found.build().eval()(images).unflatten(1, (512, -1)).mean(dim=2)
        torch.testing.assert_close(features, expected.eval()(images), rtol=1e-5, atol=1e-6)


def test_half_precision_and_files_without_counters(resnet18: dict[str, Tensor]) -> None:
    tensors = {name: tensor.half() for name, tensor in resnet18.items() if "num_batches" not in name}
    found = find_resnet(tensors, "x.pth")
    assert found.state["bn1.num_batches_tracked"].dtype == torch.int64
    assert found.state["conv1.weight"].dtype == torch.float32


def test_several_networks_of_equal_rank(resnet18: dict[str, Tensor]) -> None:
    tensors = {f"{who}.{name}": tensor for who in ("teacher", "student") for name, tensor in resnet18.items()}
    with pytest.raises(InputError, match=r"several networks, under 'teacher\.', 'student\.'"):
        find_resnet(tensors, "x.pth")


def test_not_quite_a_resnet(resnet18: dict[str, Tensor]) -> None:
    tensors = {name: tensor for name, tensor in resnet18.items() if name != "layer3.1.bn2.bias"}
    message = r"none of torchvision's; the nearest is resnet18, .* in 1, such as layer3\.1\.bn2\.bias"
    with pytest.raises(InputError, match=message):
        find_resnet(tensors, "x.pth")
    with pytest.raises(InputError, match=r"no ResNet in it: .* it has features\.0\.weight"):
        find_resnet({"features.0.weight": torch.zeros(1)}, "vgg.pth")
