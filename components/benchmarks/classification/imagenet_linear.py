"""ImageNet linear: linear classifiers on a frozen backbone (paper, section 4.1).

Trained: one linear layer per learning rate on the backbone's pooled features, all over the same forward
passes: random crops and flips, no colour jitter; SGD with momentum 0.9 in batches of 256, 100 epochs,
no weight decay, cosine from the whole learning rate to 0. The backbone does not change, nor do its
BatchNorm statistics. Measured: top-1 and top-5 in percent on centre crops of the validation images, at the
paper's learning rate of 0.3; beside it at the best of all learning rates, chosen on held-out training
images where there are any. params.yaml, section ``imagenet_linear``, says what this run does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from components import params
from components.benchmarks.classification.heads import ClassificationObjective, ParallelLinearHeads
from components.benchmarks.classification.images import (
    Machine,
    centre_crop_features,
    feature_batches,
    hold_out,
)
from components.benchmarks.classification.results import Head, Outcome, accuracy
from components.benchmarks.classification.training import (
    PAPERS_IMAGES,
    Paper,
    fit,
    num_iterations,
    rank_classes,
)
from components.core.errors import InputError
from components.core.logs import own_logger
from components.sources.readers.types import ClassifiedImages
from components.training.loop import Log
from components.training.schedules import Multiplier, multiplier
from components.training.state import Row

PAPER = Paper("ImageNet", 1_000, {**PAPERS_IMAGES, "learning_rate": 0.3})

_logger = own_logger(__name__)


def probe(
    backbone: nn.Module,
    metadata: Mapping[str, Any],
    train: ClassifiedImages,
    val: ClassifiedImages,
    settings: params.ImagenetLinear,
    *,
    item: str,
    inputs: dict[str, str],
    log: Log,
) -> Outcome | None:
    """Train the heads, from the newest checkpoint of the same probe if there is one, and measure them.

    Several processes may do so together (components.training.distributed); the first one gets the outcome.

    Args:
        backbone: pooled features ``(batch, feature_size)`` of images; ``metadata`` says what it is.
        item: its name.
        inputs: digests of backbone and images, by name.
        log: receives ``train/...`` and ``val/...`` figures and the iterations done by then.

    Raises:
        InputError: if all heads have diverged.
    """
    host = Machine.here()
    if host.processes.is_first:
        PAPER.warn_of_other_classes("imagenet_linear", settings, len(train.classes))
    train, held_out = hold_out(train, settings.holdout, settings.seed)
    measured_on = {"val": val} if held_out is None else {"val": val, "holdout": held_out}
    features = {
        name: centre_crop_features(backbone, images, settings, host, name)
        for name, images in measured_on.items()
    }
    val_share = feature_batches(features["val"], val.labels, host.shard)
    objective = build_probe(backbone, int(metadata["feature_size"]), len(train.classes), settings)
    state, checkpoints = fit(
        objective,
        train,
        lambda: val_share,
        stage="imagenet_linear",
        settings=settings,
        weight_decay=0.0,
        schedule=schedule(len(train.image_paths), settings),
        inputs=inputs,
        host=host,
        log=log,
    )
    if not host.processes.is_first:
        return None
    ranked = {
        name: rank_classes(objective, feature_batches(features[name], images.labels), host.device, "fp32")
        for name, images in measured_on.items()
    }
    heads = probe_heads(settings)
    diverged = diverged_rates(heads, objective.diverged_heads(), state.history.train)
    by_rate = {
        name: figures_by_rate(heads, images.labels, ranked[name], diverged)
        for name, images in measured_on.items()
    }
    figures = probe_summary(settings, by_rate, diverged)
    _report(item, settings, figures)
    title, shown = f"ImageNet linear on {metadata['architecture']}, {item}", 0
    if shown_rate(settings.learning_rate) in diverged:
        shown = settings.learning_rates.index(figures["best_learning_rate"])
        title += f", learning rate {heads[shown].learning_rate:g}"
    return Outcome(
        title=title,
        accuracies=figures,
        state=state,
        checkpoints=checkpoints,
        heads=heads,
        epochs=settings.epochs,
        train_labels=train.labels,
        val=val,
        predicted=ranked["val"][shown, :, 0],
    )


def schedule(num_images: int, settings: params.ImagenetLinear) -> Multiplier:
    """Return the cosine from the whole learning rate to 0 over all epochs."""
    return multiplier("cosine", num_iterations(num_images, settings))


def build_probe(
    backbone: nn.Module, feature_size: int, num_classes: int, settings: params.ImagenetLinear
) -> ClassificationObjective:
    """Return one head per learning rate, all drawn from ``settings.seed``, on the backbone as it is."""
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
    """Return the heads by learning rate, the paper's first; a single one needs no name."""
    rates = settings.learning_rates
    return tuple(Head(f"_lr{rate:g}" if len(rates) > 1 else "", rate) for rate in rates)


def figures_by_rate(
    heads: Sequence[Head], labels: NDArray[np.int64], ranked: NDArray[np.int64], diverged: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Return accuracies in percent by learning rate, from classes ``(num_heads, num_images, k)``.

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
    """Return figures at the paper's learning rate, and at the best one: by ``holdout``, else by ``val``.

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
    """Return a learning rate as results name it."""
    return f"{rate:g}"


def _report(item: str, settings: params.ImagenetLinear, figures: Mapping[str, Any]) -> None:
    for rate, reason in figures.get("diverged", {}).items():
        papers = ", of the figures reported," if rate == shown_rate(settings.learning_rate) else ""
        _logger.warning(
            "imagenet_linear: the head of learning rate %s%s has diverged: %s", rate, papers, reason
        )
    top1 = f"{figures['top1']:.2f} %" if "top1" in figures else "none"
    print(
        f"ImageNet linear top-1 of {item}: {top1} at {settings.learning_rate:g}, "
        f"best {figures['best_top1']:.2f} % at {figures['best_learning_rate']:g}",
        flush=True,
    )
