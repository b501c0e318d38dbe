"""SGD over two learning rates, with weight decay kept off biases and normalisation of the textual head."""

import re
from typing import Any

import torch
from torch import nn

from components import params
from components.training.lookahead import Lookahead

BACKBONE_PREFIX = "visual."


def parameter_groups(module: nn.Module, optimizer: params.Optimizer) -> list[dict[str, Any]]:
    """Parameters that share a learning rate and a weight decay, one group for each such pair.

    A parameter that is tied to another one counts once, under the first of its names; parameters
    that need no gradient are left out. Paper, section 3.2.

    Returns:
        Groups for a torch optimizer: ``params`` as (name, parameter) pairs in the module's order,
        ``lr``, ``weight_decay``, and ``part``, which is ``backbone`` or ``head``.
    """
    no_weight_decay = re.compile(optimizer.no_weight_decay)
    groups: dict[tuple[str, float], dict[str, Any]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        part = "backbone" if name.startswith(BACKBONE_PREFIX) else "head"
        weight_decay = 0.0 if no_weight_decay.match(name) else optimizer.weight_decay
        group = groups.setdefault(
            (part, weight_decay),
            {
                "params": [],
                "part": part,
                "lr": optimizer.backbone_lr if part == "backbone" else optimizer.head_lr,
                "weight_decay": weight_decay,
            },
        )
        group["params"].append((name, parameter))
    return list(groups.values())


def build_optimizer(module: nn.Module, optimizer: params.Optimizer) -> torch.optim.Optimizer:
    """SGD with momentum, inside Lookahead unless ``lookahead_steps`` is 0.

    The fused form reads and writes each weight once, where the plain one passes over them four times.
    A gradient scaler skips whole steps of it, as of any other optimizer.
    """
    sgd = torch.optim.SGD(parameter_groups(module, optimizer), momentum=optimizer.momentum, fused=True)
    # It offers the scaler to skip steps itself, but makes its momentum of uninitialised memory first: after
    # an overflow at the first step the second one would add that to the weights (torch 2.14).
    sgd._step_supports_amp_scaling = False
    if optimizer.lookahead_steps == 0:
        return sgd
    return Lookahead(sgd, steps=optimizer.lookahead_steps, alpha=optimizer.lookahead_alpha)


def learning_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Learning rates in force, by part: ``{"backbone": ..., "head": ...}``."""
    return {group["part"]: float(group["lr"]) for group in optimizer.param_groups}
