"""Linear classifiers on a frozen backbone, one a learning rate, trained over the same forward passes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components import params
from components.benchmarks.classification.heads import ClassificationObjective, ParallelLinearHeads
from components.benchmarks.classification.results import Head, accuracy
from components.benchmarks.features import Features
from components.core.errors import InputError
from components.data.sampling import WHOLE_SHARD, Shard
from components.sources.readers.types import ClassifiedImages
from components.training.state import Row


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
    features: Features, labels: NDArray[np.int64], batch_size: int, shard: Shard = WHOLE_SHARD
) -> list[dict[str, Tensor]]:
    """Batches of a shard of ready features, in order."""
    part = slice(shard.rank, None, shard.world_size)
    parts = zip(
        torch.from_numpy(features)[part].split(batch_size),
        torch.from_numpy(labels)[part].split(batch_size),
        strict=True,
    )
    return [{"features": part, "label": part_labels} for part, part_labels in parts]


def figures_by_rate(
    heads: Sequence[Head], labels: NDArray[np.int64], ranked: NDArray[np.int64], diverged: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Accuracies in percent by learning rate, from classes ``(num_heads, num_images, k)``.

    Learning rates that are in ``diverged`` have none.
    """
    return {
        shown_rate(head.learning_rate): accuracy(labels, of_head)
        for head, of_head in zip(heads, ranked, strict=True)
        if shown_rate(head.learning_rate) not in diverged
    }


def diverged_rates(
    heads: Sequence[Head], has_diverged: Sequence[bool], train: Sequence[Row]
) -> dict[str, str]:
    """Learning rates whose heads have diverged, each with the reason why it has no figures.

    Args:
        has_diverged: of each head.
        train: rows of training; a head that has diverged is missing in those that follow.
    """
    reasons = {}
    for head, is_it in zip(heads, has_diverged, strict=True):
        if is_it:
            without = (row["iteration"] for row in train if f"loss{head.name}" not in row)
            when = f"by iteration {next(without, train[-1]['iteration'])} of {train[-1]['iteration']}"
            reasons[shown_rate(head.learning_rate)] = f"its loss or gradient was beyond all bounds {when}"
    return reasons


def probe_summary(
    settings: params.ImagenetLinear,
    by_rate: dict[str, dict[str, dict[str, float]]],
    diverged: dict[str, str],
) -> dict[str, Any]:
    """The paper's learning rate, and beside it the best one: chosen on ``holdout``, else on ``val``.

    The latter chooses by the very images it then reports, so it is optimistic, the more so the more
    learning rates there are. A head that has ``diverged`` has no figures but the reason why.

    Raises:
        InputError: if all heads have diverged.
    """
    chooser = "holdout" if "holdout" in by_rate else "val"
    left = [rate for rate in settings.learning_rates if shown_rate(rate) not in diverged]
    if not left:
        raise InputError(
            f"imagenet_linear: all heads have diverged ({next(iter(diverged.values()))}). Lower "
            "imagenet_linear.learning_rate, or look whether the backbone's own pretraining has diverged."
        )
    best = max(left, key=lambda rate: by_rate[chooser][shown_rate(rate)]["top1"])
    reported = by_rate["val"]
    return {
        **reported.get(shown_rate(settings.learning_rate), {}),
        "learning_rate": settings.learning_rate,
        "best_top1": reported[shown_rate(best)]["top1"],
        "best_top5": reported[shown_rate(best)]["top5"],
        "best_learning_rate": best,
        "best_chosen_on": chooser,
        "by_learning_rate": by_rate,
        **({"diverged": diverged} if diverged else {}),
    }


def shown_rate(rate: float) -> str:
    """A learning rate as results name it."""
    return f"{rate:g}"


def _chosen(images: ClassifiedImages, mask: NDArray[np.bool_]) -> ClassifiedImages:
    paths = [path for path, is_chosen in zip(images.image_paths, mask, strict=True) if is_chosen]
    return replace(images, image_paths=paths, labels=images.labels[mask])
