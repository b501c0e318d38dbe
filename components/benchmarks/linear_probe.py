"""Linear classifiers on a frozen backbone, one a learning rate, trained over the same forward passes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components import params
from components.benchmarks.classification import ClassificationObjective, ParallelLinearHeads
from components.benchmarks.classification_results import Head, accuracy
from components.benchmarks.features import Features
from components.data.share import WHOLE, Share
from components.errors import InputError
from components.sources.classified import ClassifiedImages


def build_probe(
    backbone: nn.Module, feature_size: int, num_classes: int, settings: params.ImagenetLinear
) -> ClassificationObjective:
    """A head a learning rate, all drawn from ``settings.seed``, on the backbone as it is."""
    torch.manual_seed(settings.seed)
    rates = settings.learning_rates
    return ClassificationObjective(
        backbone,
        ParallelLinearHeads(len(rates), feature_size, num_classes),
        names=[head.name for head in probe_heads(settings)],
        rate_factors=[rate / settings.learning_rate for rate in rates],
        frozen=True,
    )


def probe_heads(settings: params.ImagenetLinear) -> tuple[Head, ...]:
    """The heads by learning rate, the paper's first; a single one needs no name."""
    rates = settings.learning_rates
    return tuple(Head(f"_lr{rate:g}" if len(rates) > 1 else "", rate) for rate in rates)


def hold_out(
    images: ClassifiedImages, share: float, seed: int
) -> tuple[ClassifiedImages, ClassifiedImages | None]:
    """Split training images into those to train on and those to choose a learning rate by.

    Args:
        share: of each class that is held out, at random, rounded down; 0 holds out nothing.
        seed: of the choice.

    Raises:
        InputError: if the share is above 0 and every class is too small for it.
    """
    if share == 0.0:
        return images, None
    rng = np.random.default_rng([seed, 1])
    held = np.zeros(len(images.labels), dtype=bool)
    for label in range(len(images.classes)):
        members = rng.permutation(np.flatnonzero(images.labels == label))
        held[members[: int(share * len(members))]] = True
    if not held.any():
        raise InputError(
            f"imagenet_linear.holdout: {share:g} of the largest class is not one image; raise it, or choose 0"
        )
    return _chosen(images, ~held), _chosen(images, held)


def feature_batches(
    features: Features, labels: NDArray[np.int64], batch_size: int, share: Share = WHOLE
) -> list[dict[str, Tensor]]:
    """Batches of a share of ready features, in order."""
    part = slice(share.rank, None, share.num_ranks)
    parts = zip(
        torch.from_numpy(features)[part].split(batch_size),
        torch.from_numpy(labels)[part].split(batch_size),
        strict=True,
    )
    return [{"features": part, "label": part_labels} for part, part_labels in parts]


def figures_by_rate(
    heads: Sequence[Head], labels: NDArray[np.int64], ranked: NDArray[np.int64]
) -> dict[str, dict[str, float]]:
    """Accuracies in percent by learning rate, from classes ``(num_heads, num_images, k)``."""
    return {
        f"{head.learning_rate:g}": accuracy(labels, of_head)
        for head, of_head in zip(heads, ranked, strict=True)
    }


def _chosen(images: ClassifiedImages, mask: NDArray[np.bool_]) -> ClassifiedImages:
    paths = [path for path, is_chosen in zip(images.image_paths, mask, strict=True) if is_chosen]
    return replace(images, image_paths=paths, labels=images.labels[mask])
