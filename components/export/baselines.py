"""Backbones to compare the pretrained one with, by the name that stages, files and reports use.

A new baseline (torchvision's supervised ImageNet weights, MoCo) is one more function here and its
name in the matrices of dvc.yaml.
"""

from collections.abc import Callable

import torch
from torch import nn

from components import params
from components.models.backbones import TorchvisionBackbone


def random_backbone(baseline: params.Baseline, backbone: params.Backbone) -> nn.Module:
    """The network as pretraining starts it, drawn from ``baseline.seed`` and nothing else."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(baseline.seed)
        return TorchvisionBackbone(backbone.name, backbone.zero_init_residual).cnn


BASELINES: dict[str, Callable[[params.Baseline, params.Backbone], nn.Module]] = {"random": random_backbone}
