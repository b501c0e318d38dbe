"""ImageNet linear: linear classifiers on a frozen backbone (paper, section 4.1).

Trained: one linear layer per learning rate on the backbone's pooled features, all over the same forward
passes: random crops and flips, no colour jitter; SGD with momentum 0.9 in batches of 256, 100 epochs,
no weight decay, cosine from the whole learning rate to 0. The backbone does not change, nor do its
BatchNorm statistics. Measured: top-1 and top-5 in percent on centre crops of the validation images, at the
paper's learning rate of 0.3; beside it at the best of all learning rates, chosen on held-out training
images where there are any. params.yaml, section ``imagenet_linear``, says what this run does.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components import params
from components.benchmarks.classification.heads import ClassificationObjective, ParallelLinearHeads
from components.benchmarks.classification.results import (
    Head,
    Outcome,
    diverged_rates,
    figures_by_rate,
    shown_rate,
)
from components.benchmarks.classification.training import (
    PAPERS_IMAGES,
    Machine,
    Paper,
    fit,
    num_iterations,
    rank_classes,
)
from components.benchmarks.shared.features import Features, cached_features
from components.core.errors import InputError
from components.core.logs import own_logger
from components.data.sampling import WHOLE_SHARD, Shard
from components.data.transforms import EvalTransform
from components.sources.readers.types import ClassifiedImages
from components.training.loop import Log
from components.training.optimizer import Multiplier, multiplier

PAPER = Paper("ImageNet", 1_000, {**PAPERS_IMAGES, "learning_rate": 0.3})
FEATURE_BATCH = 4096  # ready features of images in a batch

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
    heads = probe_heads(settings)
    diverged = diverged_rates(heads, objective.diverged_heads(), state.history.train)
    ranked, by_rate = {}, {}
    for name, images in measured_on.items():
        batches = feature_batches(features[name], images.labels)
        ranked[name] = rank_classes(objective, batches, host.device, "fp32")
        by_rate[name] = figures_by_rate(heads, images.labels, ranked[name], diverged)
    figures = probe_summary(settings, by_rate, diverged)
    _report(item, settings, figures)
    title, best = f"ImageNet linear on {metadata['architecture']}, {item}", figures["best_learning_rate"]
    of_figures = {"": ranked["val"][0], "best_": ranked["val"][settings.learning_rates.index(best)]}
    if shown_rate(settings.learning_rate) in diverged:
        title += f", learning rate {best:g}"
        del of_figures[""]
    return Outcome(
        title=title,
        accuracies=figures,
        state=state,
        checkpoints=checkpoints,
        heads=heads,
        epochs=settings.epochs,
        train_labels=train.labels,
        val=val,
        predicted=next(iter(of_figures.values()))[:, 0],
        ranked=of_figures,
    )


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
    return images.chosen(np.flatnonzero(~held)), images.chosen(np.flatnonzero(held))


def centre_crop_features(
    backbone: nn.Module, images: ClassifiedImages, settings: params.ImagenetLinear, host: Machine, name: str
) -> Features:
    """Return features of centre crops; of several processes the first one extracts, the others read them."""
    if not host.processes.is_first:
        host.processes.wait()
    features = cached_features(
        backbone,
        images.image_paths,
        EvalTransform(settings.image_size, settings.crop_size, settings.antialias),
        batch_size=settings.batch_size,
        num_workers=host.num_workers,
        device=host.device,
        description=f"{name} features",
        upright=images.upright,
    )
    if host.processes.is_first:
        host.processes.wait()
    return features


def feature_batches(
    features: Features, labels: NDArray[np.int64], shard: Shard = WHOLE_SHARD, batch_size: int = FEATURE_BATCH
) -> list[dict[str, Tensor]]:
    """Return batches of a shard of ready features, in order."""
    part = slice(shard.rank, None, shard.world_size)
    parts = zip(
        torch.from_numpy(features)[part].split(batch_size),
        torch.from_numpy(labels)[part].split(batch_size),
        strict=True,
    )
    return [{"features": part, "label": part_labels} for part, part_labels in parts]


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


def probe_summary(
    settings: params.ImagenetLinear, by_rate: dict[str, dict[str, dict[str, float]]], diverged: dict[str, str]
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
