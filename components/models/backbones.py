"""Backbones: torchvision ResNets or networks of timm without their classifier, in a model and as files.

A file is safetensors with the library's plain names and metadata:
``torchvision.models.resnet50().load_state_dict(safetensors.torch.load_file(path), strict=False)``
takes a ResNet's as it is; only ``fc.*`` is missing. What timm adds is in components.models.timm_backbones.
"""

import copy
import difflib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from components.core.errors import InputError
from components.core.files import writing
from components.core.tensor_files import DIGEST, require_sound, save_stable
from components.params import TIMM, is_timm

if TYPE_CHECKING:
    from components.models.timm_backbones import TimmBackbone

FORMAT = "virtex-backbone"
VERSION = "1"
TRUNK = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
EXAMPLE_SHAPE = (2, 3, 64, 64)


def backbone_names() -> list[str]:
    """Return the names of all ResNets (plain, wide, ResNeXt) of the installed torchvision."""
    return torchvision.models.list_models(
        module=torchvision.models, include=["resnet*", "wide_resnet*", "resnext*"]
    )


class TorchvisionBackbone(nn.Module):
    """A torchvision ResNet that ends with layer4.

    Attributes:
        cnn: the ResNet, with ``avgpool`` and ``fc`` replaced by ``nn.Identity``.
        feature_size: channels of the feature map (512 for resnet18, 2048 for resnet50).

    Shape:
        image ``(batch, 3, height, width)``, normalised float
        -> feature map ``(batch, feature_size, height / 32, width / 32)``
    """

    def __init__(self, name: str, zero_init_residual: bool = True) -> None:
        """Build the ResNet called ``name`` with random weights.

        Args:
            name: a torchvision ResNet, such as ``resnet50`` or ``wide_resnet50_2``.
            zero_init_residual: start each residual branch at zero (arXiv 1706.02677).

        Raises:
            InputError: for an unknown name; the message gives the nearest one.
        """
        super().__init__()
        known = backbone_names()
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise InputError(
                f"backbone {name!r} is not a torchvision ResNet; did you mean {nearest!r}? "
                f"Known: {', '.join(known)}, and any network of timm, such as {TIMM}convnext_tiny"
            )
        self.cnn = torchvision.models.get_model(name, weights=None, zero_init_residual=zero_init_residual)
        self.feature_size: int = self.cnn.fc.in_features
        self.cnn.avgpool = nn.Identity()
        self.cnn.fc = nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """Return the feature map of layer4; see the class for shapes."""
        cnn = self.cnn
        x = cnn.maxpool(cnn.relu(cnn.bn1(cnn.conv1(image))))  # (batch, 64, height / 4, width / 4)
        for layer in (cnn.layer1, cnn.layer2, cnn.layer3, cnn.layer4):
            x = layer(x)
        return x


def build_backbone(
    name: str, zero_init_residual: bool = True, drop_path: float = 0.0
) -> "TorchvisionBackbone | TimmBackbone":
    """Build a backbone with random weights; its ``cnn`` has the library's names, ``feature_size`` channels.

    Args:
        name: a torchvision ResNet, or a network of timm as ``timm/convnext_tiny``.
        zero_init_residual: of a torchvision ResNet; timm's networks have their own first weights.
        drop_path: stochastic depth of a network of timm.

    Raises:
        InputError: for an unknown name, and stochastic depth of a ResNet of torchvision's.
    """
    if is_timm(name):
        from components.models.timm_backbones import TimmBackbone  # the library: only where it is asked for

        return TimmBackbone(name, drop_path)
    backbone = TorchvisionBackbone(name, zero_init_residual)
    if drop_path:
        raise InputError(f"backbone.drop_path: {drop_path}, but torchvision's {name} has none; expected 0")
    return backbone


def require_detectable(name: str) -> None:
    """Refuse a backbone that no detector can be built around.

    Raises:
        InputError: for an unknown name too.
    """
    if is_timm(name):
        from components.models.timm_backbones import require_pyramid

        require_pyramid(name)


def export_backbone(
    cnn: nn.Module, path: Path, architecture: str, source: str, details: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Write a network without its classifier, and verify that the file restores it.

    Before the file takes its place it is loaded again, and its features of `example_images` must
    be those of ``cnn``.

    Args:
        cnn: the network; ``avgpool`` and ``fc`` are ignored, whatever they are.
        path: where to write, atomically.
        architecture: the name, such as ``resnet50`` or ``timm/convnext_tiny``.
        source: where the weights come from: ``virtex`` or a baseline's name.
        details: more metadata, such as the pretraining objective.

    Returns:
        the metadata as written.

    Raises:
        RuntimeError: if the file does not give the same features.
    """
    cnn = copy.deepcopy(cnn).to(device="cpu", dtype=torch.float32).eval()
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "architecture": architecture,
        "feature_size": str(_empty(architecture)[1]),
        "source": source,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        **({"timm": version("timm")} if is_timm(architecture) else {}),
        **(details or {}),
    }
    with writing(path) as temporary:
        save_stable(trunk_state(cnn), metadata, temporary)
        loaded, _ = load_backbone(temporary)
        with torch.inference_mode():
            hold_features(path, cnn, loaded(example_images()))
    return metadata


def load_backbone(path: Path) -> tuple[nn.Module, dict[str, str]]:
    """Load what `export_backbone` wrote.

    Returns:
        a network in eval mode on the CPU without classifier (a ResNet's ``fc`` is the identity), so that it
        maps images ``(batch, 3, height, width)`` to pooled features ``(batch, feature_size)``; and the
        metadata.

    Raises:
        InputError: if the file is missing, damaged, or not such a backbone.
    """
    metadata = _read_metadata(Path(path))
    architecture = metadata["architecture"]
    try:
        backbone, feature_size = _empty(architecture)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if metadata.get("feature_size") != str(feature_size):
        raise InputError(
            f"{path}: feature_size {metadata.get('feature_size')} in its metadata, but "
            f"{architecture} has {feature_size}; export it again (stage select or baseline)"
        )
    try:
        backbone.load_state_dict(load_file(path), assign=True)
    except (RuntimeError, safetensors.SafetensorError) as error:
        named = architecture if is_timm(architecture) else f"torchvision's {architecture} without fc"
        raise InputError(
            f"{path}: its weights are not those of {named}; export it again (stage select or baseline). "
            f"{error}"
        ) from error
    require_sound(path)
    metadata.pop(DIGEST, None)  # of this file; a writer of another one computes its own
    return backbone.requires_grad_(False).eval(), metadata


def trunk_state(cnn: nn.Module) -> dict[str, Tensor]:
    """Return the state dict without a classifier: of a ResNet its layers without ``fc`` of any kind."""
    is_whole = not isinstance(cnn, torchvision.models.ResNet)  # timm's have lost theirs
    return {
        name: tensor.detach().contiguous()
        for name, tensor in cnn.state_dict().items()
        if is_whole or name.partition(".")[0] in TRUNK
    }


def hold_features(path: Path, cnn: nn.Module, found: Tensor, tolerance: float = 1e-5) -> None:
    """Compare a written file's features of `example_images` with those of the network that was written.

    Raises:
        RuntimeError: if they differ by more than ``tolerance`` of the largest feature.
    """
    expected = pooled_features(cnn, example_images())
    largest = float(expected.abs().nan_to_num().max())
    if not torch.allclose(expected, found, rtol=0, atol=tolerance * largest, equal_nan=True):
        raise RuntimeError(f"{path}: features after loading differ by {(expected - found).abs().max():.3g}")


def pooled_features(cnn: nn.Module, images: Tensor) -> Tensor:
    """Return the mean over all places of the feature map; of a ResNet, whatever ``avgpool`` and ``fc`` are.

    Shapes:
        images ``(batch, 3, height, width)`` -> ``(batch, feature_size)``.
    """
    return feature_map(cnn, images).mean(dim=(2, 3))


def feature_map(cnn: nn.Module, images: Tensor) -> Tensor:
    """Return the last feature map ``(batch, feature_size, height / stride, width / stride)``.

    Of a ResNet that of layer4, stride 32, whatever ``avgpool`` and ``fc`` are.
    """
    if not isinstance(cnn, torchvision.models.ResNet):
        from components.models.timm_backbones import timm_feature_map

        return timm_feature_map(cnn, images)
    for name in TRUNK:
        images = cnn.get_submodule(name)(images)
    return images


def example_images() -> Tensor:
    """Return two fixed images ``(2, 3, 64, 64)`` in the range of normalised pixels."""
    numbers = torch.arange(torch.Size(EXAMPLE_SHAPE).numel(), dtype=torch.float64)
    return (2.0 * torch.sin(numbers * numbers * 1e-3)).float().reshape(EXAMPLE_SHAPE)


def _empty(architecture: str) -> tuple[nn.Module, int]:
    """Build the network to be filled, ending with pooling; return it and its feature size."""
    if is_timm(architecture):
        with torch.random.fork_rng(devices=[]):  # with storage: some of its buffers are in no file
            network = build_backbone(architecture)
        return network.cnn, network.feature_size
    with torch.device("meta"):
        backbone = TorchvisionBackbone(architecture)
    backbone.cnn.avgpool = nn.AdaptiveAvgPool2d((1, 1))
    return backbone.cnn, backbone.feature_size


def _read_metadata(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise InputError(f"{path}: no such backbone; run the stage that writes it (select or baseline)")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (safetensors.SafetensorError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: not a whole safetensors file ({error}); export it again (stage select or baseline)"
        ) from error
    if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
        raise InputError(
            f"{path}: expected a {FORMAT} file of version {VERSION}, its metadata says "
            f"{json.dumps(metadata)[:300]}; name a file written by the stage select or baseline"
        )
    architecture = metadata.get("architecture", "")
    if architecture not in backbone_names() and not is_timm(architecture):
        raise InputError(
            f"{path}: architecture {architecture!r} in its metadata is not one of "
            f"{', '.join(backbone_names())}, or of timm"
        )
    return metadata
