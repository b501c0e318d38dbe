"""A checkpoint for detectron2: its own names of a ResNet's layers, read by ``MODEL.WEIGHTS``."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from components.core.errors import InputError
from components.core.files import writing
from components.models.backbones import TRUNK, trunk_state
from components.params import is_timm

AUTHOR = "virtex-pipeline"
RENAMED = (  # torchvision's, detectron2's
    (r"^conv1\.", "stem.conv1."),
    (r"^bn1\.", "stem.conv1.norm."),
    (r"^layer1\.", "res2."),
    (r"^layer2\.", "res3."),
    (r"^layer3\.", "res4."),
    (r"^layer4\.", "res5."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
)


def export_detectron2(cnn: nn.Module, metadata: Mapping[str, str], path: Path) -> None:
    """Write a ``.pth`` for ``MODEL.WEIGHTS``.

    ``matching_heuristics`` is essential: without it detectron2 loads nothing into ``backbone.bottom_up``
    and only warns. The images are RGB, normalised as torchvision's, and the stride is in the 3x3
    convolution (``MODEL.RESNETS.STRIDE_IN_1X1: False``). Arguments are those of all
    formats (`components.export.formats`).

    Raises:
        InputError: of a network of timm.
        RuntimeError: if the file does not give back the same tensors.
    """
    require_resnet(metadata, "detectron2")
    state = {detectron2_name(name): tensor for name, tensor in trunk_state(cnn).items()}
    with writing(path) as temporary:
        torch.save({"model": state, "__author__": AUTHOR, "matching_heuristics": True}, temporary)
        loaded: dict[str, Tensor] = torch.load(temporary, weights_only=True)["model"]
        back = {torchvision_name(name): tensor for name, tensor in loaded.items()}
        if not _equal(back, trunk_state(cnn)):
            raise RuntimeError(f"{path}: its names do not map back to torchvision's")


def require_resnet(metadata: Mapping[str, str], library: str) -> None:
    """Refuse a backbone that a library of ResNets has no place for.

    Raises:
        InputError: of a network of timm.
    """
    if is_timm(metadata["architecture"]):
        raise InputError(
            f"--format {library}: it holds ResNets of torchvision's, and this backbone is "
            f"{metadata['architecture']}; choose timm, huggingface, onnx or mlflow"
        )


def detectron2_name(name: str) -> str:
    """Rename ``layer1.0.bn2.weight`` to ``res2.0.conv2.norm.weight``, and so on."""
    if name.partition(".")[0] not in TRUNK:
        raise ValueError(f"{name!r} is no name of a ResNet's trunk")
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def torchvision_name(name: str) -> str:
    """Invert `detectron2_name`."""
    name = re.sub(r"^stem\.conv1\.norm\.", "bn1.", name)
    name = re.sub(r"^stem\.conv1\.", "conv1.", name)
    name = re.sub(r"^res(\d)\.", lambda match: f"layer{int(match[1]) - 1}.", name)
    name = re.sub(r"\.conv(\d)\.norm\.", r".bn\1.", name)
    name = re.sub(r"\.shortcut\.norm\.", ".downsample.1.", name)
    return re.sub(r"\.shortcut\.", ".downsample.0.", name)


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
