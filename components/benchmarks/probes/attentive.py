"""The attentive probe: a query learned for the task pools the feature map, and a linear layer classifies.

Average pooling, which the linear benchmarks are given, asks the backbone to put all it knows everywhere;
attention may look where something is. Pooling is timm's AttentionPoolLatent with its defaults, then batch
normalisation without affine parameters and a linear layer, trained on centre crops without augmentation.
"""

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from components import params
from components.benchmarks.probes.feature_maps import BATCH, extract_maps, train_head
from components.benchmarks.probes.result import Probed, ranked_classes
from components.benchmarks.shared.features import Features
from components.core import machine
from components.data.transforms import EvalTransform
from components.sources.readers.voc import VocSplit

HEADS = 8
MLP_RATIO = 4
LEARNING_RATE = 1e-3
FIGURE = "attentive.voc07_mAP"


class AttentionPool(nn.Module):
    """Cross-attention of one learned query to all places of a map, then a residual MLP.

    Shape:
        maps ``(batch, feature_size, rows, columns)`` -> ``(batch, feature_size)``
    """

    def __init__(self, feature_size: int, heads: int = HEADS) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, 1, feature_size))
        nn.init.trunc_normal_(self.query, std=feature_size**-0.5)
        self.attention = nn.MultiheadAttention(feature_size, heads, batch_first=True)
        hidden = MLP_RATIO * feature_size
        self.mlp = nn.Sequential(nn.Linear(feature_size, hidden), nn.GELU(), nn.Linear(hidden, feature_size))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the pooled features; see the class for shapes."""
        places = maps.flatten(2).transpose(1, 2)  # (batch, rows * columns, feature_size)
        query = self.query.expand(len(maps), -1, -1)
        pooled: Tensor = self.attention(query, places, places, need_weights=False)[0][:, 0]
        return pooled + self.mlp(pooled)


def attentive_classes(
    backbone: nn.Module, trainval: VocSplit, test: VocSplit, settings: params.Voc07, epochs: int
) -> Probed:
    """Rank VOC2007's test images by a head trained on its trainval images."""
    transform = EvalTransform(settings.image_size, settings.crop_size, settings.antialias)
    known, asked = (
        extract_maps(backbone, split.image_paths, transform, settings.batch_size, f"VOC2007 {name}")
        for name, split in (("trainval", trainval), ("test", test))
    )
    images = [f"voc2007/{path.stem}" for path in test.image_paths]
    return ranked_classes(images, test.labels, {FIGURE: scores(known, trainval.labels, asked, epochs)})


def scores(train: Features, labels: NDArray[np.int8], test: Features, epochs: int) -> NDArray[np.float32]:
    """Train a head on maps and return its logits for others, ``(num_test, num_classes)``.

    Args:
        train: maps ``(num_train, feature_size, rows, columns)``.
        labels: ``(num_train, num_classes)`` of 1 (present), -1 (absent) and 0 (does not count).
        test: maps ``(num_test, feature_size, rows, columns)``.
        epochs: of training.
    """
    build = functools.partial(_head, train.shape[1], labels.shape[1])
    head = train_head(
        build, train, torch.from_numpy(labels), binary_loss, epochs, LEARNING_RATE, "attentive probe"
    )
    device = machine.device_name()
    with torch.inference_mode():
        parts = [head(part.to(device)).cpu() for part in torch.from_numpy(test).split(BATCH)]
    return torch.cat(parts).numpy()


def _head(feature_size: int, num_classes: int) -> nn.Module:
    return nn.Sequential(
        AttentionPool(feature_size),
        nn.BatchNorm1d(feature_size, affine=False),
        nn.Linear(feature_size, num_classes),
    )


def binary_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean binary cross entropy over the labels that are not 0.

    Shape:
        logits and labels ``(batch, num_classes)`` -> scalar
    """
    losses = F.binary_cross_entropy_with_logits(logits, (labels > 0).float(), reduction="none")
    counted = labels != 0
    return (losses * counted).sum() / counted.sum().clamp_min(1)
