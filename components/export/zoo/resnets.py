"""A torchvision ResNet among named tensors: VirTex's, torchvision's own, or under a prefix as MoCo's."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Size, Tensor, nn

from components.core.errors import InputError
from components.models.backbones import TorchvisionBackbone, backbone_names

MARK = "layer1.0.conv1.weight"  # every ResNet has it
# Prefixes to prefer where several networks lie in one file: VirTex; MoCo's query, not its key.
PREFERRED = ("visual.cnn.", "module.encoder_q.", "encoder_q.", "module.base_encoder.", "base_encoder.", "")
COUNTER = "num_batches_tracked"  # absent from files older than torch 0.4.1


@dataclass(frozen=True, slots=True)
class FoundResNet:
    """A network without its classifier.

    Attributes:
        architecture: torchvision name, told by the shapes.
        state: complete state dict of the trunk in float32, by torchvision's names.
        prefix: under which the file has it, such as ``module.encoder_q.``.
    """

    architecture: str
    state: dict[str, Tensor]
    prefix: str

    def build(self) -> nn.Module:
        """The network as in `TorchvisionBackbone`: ``avgpool`` and ``fc`` are identities."""
        cnn = TorchvisionBackbone(self.architecture).cnn
        cnn.load_state_dict(self.state)
        return cnn


def find_resnet(tensors: Mapping[str, Tensor], source: str) -> FoundResNet:
    """Find the ResNet in a state dict; ``source`` names the file in errors.

    Raises:
        InputError: if there is none, more than one, or not quite one of torchvision's.
    """
    prefix = _prefix(tensors, source)
    trunk = {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix) and not name.startswith(f"{prefix}fc.")
    }
    architecture = _architecture({name: tensor.shape for name, tensor in trunk.items()}, source)
    state = {
        name: trunk.get(name, torch.zeros(shape, dtype=torch.int64)) for name, shape in _shapes(architecture)
    }
    return FoundResNet(
        architecture,
        {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()},
        prefix,
    )


def _prefix(tensors: Mapping[str, Tensor], source: str) -> str:
    found = [name.removesuffix(MARK) for name in tensors if name.endswith(MARK)]
    chosen = next((prefix for prefix in PREFERRED if prefix in found), None)
    if chosen is None and len(found) == 1:
        chosen = found[0]
    if chosen is None:
        raise InputError(
            f"{source}: holds several networks, under {', '.join(map(repr, found))}; keep one of them"
            if found
            else f"{source}: no ResNet in it: no tensor is called [...]{MARK}; it has "
            f"{', '.join(list(tensors)[:3])}"
        )
    return chosen


def _architecture(found: Mapping[str, Size], source: str) -> str:
    wanted = {name: shape for name, shape in found.items() if not name.endswith(COUNTER)}
    best, differences = "", {""} | wanted.keys()
    for architecture in backbone_names():
        shapes = {name: shape for name, shape in _shapes(architecture) if not name.endswith(COUNTER)}
        names = shapes.keys() | wanted.keys()
        different = {name for name in names if shapes.get(name) != wanted.get(name)}
        if not different:
            return architecture
        if len(different) < len(differences):
            best, differences = architecture, different
    known = f"; the nearest is {best}, which differs in {len(differences)}, such as {min(differences)}"
    raise InputError(f"{source}: its ResNet is none of torchvision's{known if best else ''}")


@cache
def _shapes(architecture: str) -> tuple[tuple[str, Size], ...]:
    with torch.device("meta"):
        cnn = TorchvisionBackbone(architecture).cnn
    return tuple((name, tensor.shape) for name, tensor in cnn.state_dict().items())
