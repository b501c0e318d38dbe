"""Fine-tuning: a backbone and a new linear classifier on it, all of it trained."""

import torch
from torch import nn

from components.benchmarks.classification.heads import ClassificationObjective, ParallelLinearHeads


def build_finetuning(
    backbone: nn.Module, feature_size: int, num_classes: int, seed: int
) -> ClassificationObjective:
    """The classifier is drawn from ``seed``; the backbone is trained from where it is, BatchNorm too."""
    torch.manual_seed(seed)
    return ClassificationObjective(backbone, ParallelLinearHeads(1, feature_size, num_classes), frozen=False)
