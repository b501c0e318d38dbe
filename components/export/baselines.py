"""Backbones to compare the pretrained one with, made from the source that params.yaml names."""

from dataclasses import dataclass

import torch
import torchvision
from torch import nn

from components import params
from components.core.errors import InputError
from components.core.redaction import redacted
from components.export.zoo.resnets import find_resnet
from components.export.zoo.weights import open_weights
from components.models.backbones import TorchvisionBackbone

RANDOM = "random"
IMAGENET = "imagenet"
# Of torchvision's two, the recipe of the time that the paper compares with: 76.1 % top-1 for resnet50.
IMAGENET_WEIGHTS = "IMAGENET1K_V1"


@dataclass(frozen=True, slots=True)
class SourcedBackbone:
    """A torchvision ResNet, its torchvision name, and where its weights come from, for its file."""

    cnn: nn.Module
    architecture: str
    details: dict[str, str]


def random_backbone(seed: int, backbone: params.Backbone) -> SourcedBackbone:
    """The network as pretraining starts it, drawn from ``seed`` and nothing else."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        cnn = TorchvisionBackbone(backbone.name, backbone.zero_init_residual).cnn
    return SourcedBackbone(cnn, backbone.name, {"seed": str(seed)})


def imagenet_backbone(backbone: params.Backbone) -> SourcedBackbone:
    """torchvision's network supervised on ImageNet, from torch.hub's cache or the internet.

    Raises:
        InputError: if they cannot be fetched.
    """
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


def make_baseline(source: str, seed: int, backbone: params.Backbone) -> SourcedBackbone:
    """The backbone of one entry of ``baseline.sources``.

    Raises:
        InputError: for a source that is neither `random`, `imagenet` nor anything that `open_weights` opens.
    """
    if source == RANDOM:
        return random_backbone(seed, backbone)
    if source == IMAGENET:
        return imagenet_backbone(backbone)
    found = find_resnet(open_weights(source, (RANDOM, IMAGENET)), source)
    details = {"weights": redacted(source), "prefix": found.prefix}
    return SourcedBackbone(found.build(), found.architecture, details)
