from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from components import params
from components.core.errors import InputError
from components.export.zoo.resnets import find_resnet, make_baseline
from components.models.backbones import backbone_names, build_backbone, export_backbone, load_backbone

RESNET18 = params.Backbone(name="resnet18", zero_init_residual=False)


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


def test_random_depends_on_its_seed_alone() -> None:
    torch.manual_seed(5)
    expected_next = torch.rand(3)
    torch.manual_seed(5)
    first = make_baseline("random", 1, RESNET18).cnn
    assert torch.equal(torch.rand(3), expected_next)
    torch.manual_seed(6)
    again = make_baseline("random", 1, RESNET18).cnn
    other = make_baseline("random", 2, RESNET18).cnn
    assert torch.equal(first.conv1.weight, again.conv1.weight)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


@pytest.mark.parametrize(("zero", "weight"), [(True, 0.0), (False, 1.0)])
def test_random_starts_residual_branches_as_pretraining_does(zero: bool, weight: float) -> None:
    section = params.Backbone(name="resnet18", zero_init_residual=zero)
    cnn = make_baseline("random", 0, section).cnn
    assert (cnn.layer4[1].bn2.weight == weight).all()


def test_imagenet_is_torchvisions_supervised_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    expected = torchvision.models.resnet18()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(expected.state_dict(), tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    made = make_baseline("imagenet", 0, RESNET18)
    assert made.architecture == "resnet18"
    assert made.details["weights"] == "ResNet18_Weights.IMAGENET1K_V1"
    assert torch.equal(made.cnn.layer4[0].conv1.weight, expected.layer4[0].conv1.weight)


def test_imagenet_weights_that_cannot_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    with pytest.raises(InputError, match=r"resnet18-f37072fd\.pth: cannot be fetched .*put the file into"):
        make_baseline("imagenet", 0, RESNET18)


@pytest.mark.parametrize("prefix", ["", "module.encoder_q."])
def test_weights_of_a_file_bring_their_own_architecture(tmp_path: Path, prefix: str) -> None:
    theirs = torchvision.models.resnet34()
    state = {f"{prefix}{name}": tensor for name, tensor in theirs.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 200}, tmp_path / "moco.pth")
    made = make_baseline(str(tmp_path / "moco.pth"), 0, RESNET18)
    assert made.architecture == "resnet34"
    assert made.details == {"weights": str(tmp_path / "moco.pth"), "prefix": prefix}
    assert torch.equal(made.cnn.layer1[0].conv2.weight, theirs.layer1[0].conv2.weight)
    export_backbone(made.cnn, tmp_path / "moco.safetensors", made.architecture, "moco", made.details)
    assert load_backbone(tmp_path / "moco.safetensors")[1]["architecture"] == "resnet34"


def test_a_source_that_is_none_is_told_the_nearest() -> None:
    with pytest.raises(InputError, match=r"neither a file nor a published model \(did you mean `imagenet`"):
        make_baseline("imagnet", 0, RESNET18)


@pytest.mark.parametrize("prefix", ["", "visual.cnn."])
def test_a_file_of_the_runs_network_of_timm(prefix: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    section, path = (
        params.Backbone(name="timm/test_vit", zero_init_residual=False),
        tmp_path / "x.safetensors",
    )
    cnn = build_backbone(section.name).cnn.eval()
    save_file({prefix + name: value.contiguous() for name, value in cnn.state_dict().items()}, path)
    made = make_baseline(str(path), 0, section)
    assert made.architecture == "timm/test_vit"
    torch.testing.assert_close(made.cnn.state_dict(), cnn.state_dict())
    with pytest.raises(
        InputError, match=r"'imagenet' is torchvision's ResNets, and backbone\.name is timm/test_vit"
    ):
        make_baseline("imagenet", 0, section)
