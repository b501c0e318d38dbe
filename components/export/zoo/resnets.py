"""Backbones from elsewhere: drawn at random, supervised on ImageNet, or found among named tensors.

The latter are ResNets of VirTex's, torchvision's own, or under a prefix as MoCo's; where the run's backbone
is one of timm's networks, also files of that one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
import torchvision
from torch import Size, Tensor, nn

from components import params
from components.core.errors import InputError
from components.core.redaction import redacted
from components.export.zoo.weights import open_weights
from components.models.backbones import TorchvisionBackbone, backbone_names, build_backbone

RANDOM = "random"
IMAGENET = "imagenet"
# Of torchvision's two, the recipe of the time that the paper compares with: 76.1 % top-1 for resnet50.
IMAGENET_WEIGHTS = "IMAGENET1K_V1"
MARK = "layer1.0.conv1.weight"  # every ResNet has it
# Prefixes to prefer where several networks lie in one file: VirTex; MoCo's query, not its key.
OURS = "visual.cnn."
PREFERRED = (OURS, "module.encoder_q.", "encoder_q.", "module.base_encoder.", "base_encoder.", "")
COUNTER = "num_batches_tracked"  # absent from files older than torch 0.4.1


@dataclass(frozen=True, slots=True)
class SourcedBackbone:
    """A network without classifier, its name, and where its weights come from, for its file."""

    cnn: nn.Module
    architecture: str
    details: dict[str, str]


def make_baseline(source: str, seed: int, backbone: params.Backbone) -> SourcedBackbone:
    """Make the backbone of one entry of ``baseline.sources``.

    Raises:
        InputError: for a source that is neither `random`, `imagenet` nor anything that `open_weights` opens.
    """
    if source == RANDOM:
        return random_backbone(seed, backbone)
    if source == IMAGENET:
        return imagenet_backbone(backbone)
    tensors = open_weights(source, (RANDOM, IMAGENET))
    if params.is_timm(backbone.name) and (cnn := _filled(backbone.name, tensors)) is not None:
        return SourcedBackbone(cnn, backbone.name, {"weights": redacted(source)})
    found = find_resnet(tensors, source)
    details = {"weights": redacted(source), "prefix": found.prefix}
    return SourcedBackbone(found.build(), found.architecture, details)


def random_backbone(seed: int, backbone: params.Backbone) -> SourcedBackbone:
    """Draw the network as pretraining starts it, from ``seed`` and nothing else."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        cnn = build_backbone(backbone.name, backbone.zero_init_residual).cnn
    return SourcedBackbone(cnn, backbone.name, {"seed": str(seed)})


def _filled(architecture: str, tensors: Mapping[str, Tensor]) -> nn.Module | None:
    """Return timm's network with weights under its own or VirTex's names; None where some are missing."""
    with torch.random.fork_rng(devices=[]):
        cnn = build_backbone(architecture).cnn
    state = cnn.state_dict()
    for prefix in (OURS, ""):
        found = {name: tensors.get(prefix + name) for name in state}
        if all(value is not None and value.shape == state[name].shape for name, value in found.items()):
            cnn.load_state_dict(found)
            return cnn
    return None


def imagenet_backbone(backbone: params.Backbone) -> SourcedBackbone:
    """Load torchvision's network supervised on ImageNet, from torch.hub's cache or the internet.

    Raises:
        InputError: if they cannot be fetched, or the network is timm's.
    """
    if params.is_timm(backbone.name):
        raise InputError(
            f"baseline.sources: {IMAGENET!r} is torchvision's ResNets, and backbone.name is {backbone.name}; "
            "name a file of its weights, or leave this source out"
        )
    cnn = TorchvisionBackbone(backbone.name).cnn
    weights = torchvision.models.get_model_weights(backbone.name)[IMAGENET_WEIGHTS]
    try:
        state = weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{weights.url}: cannot be fetched ({error}); put the file into "
            f"{torch.hub.get_dir()}/checkpoints, or name its path in baseline.sources"
        ) from error
    cnn.load_state_dict({name: tensor for name, tensor in state.items() if not name.startswith("fc.")})
    return SourcedBackbone(cnn, backbone.name, {"weights": str(weights), "url": weights.url})


@dataclass(frozen=True, slots=True)
class FoundResNet:
    """A network without its classifier.

    Attributes:
        architecture: torchvision name, inferred from the shapes.
        state: complete state dict of the trunk in float32, by torchvision's names.
        prefix: under which the file has it, such as ``module.encoder_q.``.
    """

    architecture: str
    state: dict[str, Tensor]
    prefix: str

    def build(self) -> nn.Module:
        """Build the network as in `TorchvisionBackbone`: ``avgpool`` and ``fc`` are identities."""
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
            f"{source}: holds several networks, under {', '.join(map(repr, found))}; save one of them alone"
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
    raise InputError(f"{source}: its ResNet matches none of torchvision's{known if best else ''}")


@cache
def _shapes(architecture: str) -> tuple[tuple[str, Size], ...]:
    with torch.device("meta"):
        cnn = TorchvisionBackbone(architecture).cnn
    return tuple((name, tensor.shape) for name, tensor in cnn.state_dict().items())
