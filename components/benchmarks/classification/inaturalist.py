"""iNaturalist 2018: fine-tuning end to end, on data with a long tail (paper, section 4.3).

Trained: the backbone, its BatchNorm too, and one linear layer on its pooled features: random crops and
flips, no colour jitter; SGD with momentum 0.9 in batches of 256, 100 epochs, learning rate 0.025, times 0.1
after epochs 70 and 90, weight decay 1e-4 on everything. Measured: top-1 and top-5 in percent on centre crops
of the validation images, and top-1 of classes with many, a medium number, or few training images. The usual
bounds of these are those of Liu et al. (arXiv 1904.05160), which Kang et al. (arXiv 1910.09217) use on
iNaturalist 2018: more than 100 images are many, fewer than 20 are few. params.yaml, section
``inaturalist``, says what this run does.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from components import params
from components.benchmarks.classification.heads import ClassificationObjective, ParallelLinearHeads
from components.benchmarks.classification.results import Head, Outcome, accuracy
from components.benchmarks.classification.training import (
    PAPERS_IMAGES,
    Machine,
    Paper,
    fit,
    iterations_per_epoch,
    labelled_batches,
    num_iterations,
    rank_classes,
)
from components.sources.readers.types import ClassifiedImages
from components.training.loop import Log
from components.training.optimizer import Multiplier, multiplier

PAPER = Paper("iNaturalist 2018", 8_142, {**PAPERS_IMAGES, "learning_rate": 0.025, "weight_decay": 1e-4})
GROUPS = ("many", "medium", "few")


def finetune(
    backbone: nn.Module,
    metadata: Mapping[str, Any],
    train: ClassifiedImages,
    val: ClassifiedImages,
    settings: params.Inaturalist,
    *,
    item: str,
    inputs: dict[str, str],
    log: Log,
) -> Outcome | None:
    """Train, from the newest checkpoint of this training if there is one, and measure.

    Several processes may do so together (components.training.distributed); the first one gets the outcome.

    Args:
        backbone: pooled features ``(batch, feature_size)`` of images; ``metadata`` says what it is.
        item: its name.
        inputs: digests of backbone and images, by name.
        log: receives ``train/...`` and ``val/...`` figures and the iterations done by then.
    """
    host = Machine.here()
    if host.processes.is_first:
        PAPER.warn_of_other_classes("inaturalist", settings, len(train.classes))
    objective = build_finetuning(backbone, int(metadata["feature_size"]), len(train.classes), settings.seed)
    state, checkpoints = fit(
        objective,
        train,
        labelled_batches(val, settings, host, host.shard),
        stage="inaturalist",
        settings=settings,
        weight_decay=settings.weight_decay,
        schedule=schedule(len(train.image_paths), settings),
        inputs=inputs,
        host=host,
        log=log,
    )
    if not host.processes.is_first:
        return None
    val_batches = labelled_batches(val, settings, host)()
    (ranked,) = rank_classes(objective, val_batches, host.device, settings.precision)
    groups = frequency_groups(train.labels, len(train.classes), settings.many_above, settings.few_below)
    by_frequency = accuracy_by_frequency(groups, val.labels, ranked[:, 0])
    figures = accuracy(val.labels, ranked)
    print(f"iNaturalist top-1 of {item}: {figures['top1']:.2f} %", flush=True)
    return Outcome(
        title=f"iNaturalist 2018, fine-tuned {metadata['architecture']}, {item}",
        accuracies={**figures, "by_frequency": by_frequency},
        state=state,
        checkpoints=checkpoints,
        heads=[Head("", settings.learning_rate)],
        epochs=settings.epochs,
        train_labels=train.labels,
        val=val,
        predicted=ranked[:, 0],
        ranked={"": ranked},
        groups={name: group["top1"] for name, group in by_frequency.items() if "top1" in group},
    )


def build_finetuning(
    backbone: nn.Module, feature_size: int, num_classes: int, seed: int
) -> ClassificationObjective:
    """Return a classifier drawn from ``seed`` on the backbone, which is trained from where it is."""
    torch.manual_seed(seed)
    return ClassificationObjective(backbone, ParallelLinearHeads(1, feature_size, num_classes), frozen=False)


def schedule(num_images: int, settings: params.Inaturalist) -> Multiplier:
    """Return the steps: times ``gamma`` after each of the epochs ``milestones``."""
    epoch = iterations_per_epoch(num_images, settings.batch_size)
    milestones = [epoch * milestone for milestone in settings.milestones]
    return multiplier(
        "multistep", num_iterations(num_images, settings), milestones=milestones, gamma=settings.gamma
    )


def frequency_groups(
    train_labels: NDArray[np.int64], num_classes: int, many_above: int, few_below: int
) -> NDArray[np.int64]:
    """Return the group of each class, an index into `GROUPS`: int64 ``(num_classes,)``.

    Args:
        train_labels: ``(num_train_images,)``.
        many_above: a class with more training images than this has many.
        few_below: a class with fewer than this has few; a class without any is one of them.
    """
    counts = np.bincount(train_labels, minlength=num_classes)
    return np.where(counts > many_above, 0, np.where(counts < few_below, 2, 1))


def accuracy_by_frequency(
    groups: NDArray[np.int64], labels: NDArray[np.int64], predicted: NDArray[np.int64]
) -> dict[str, dict[str, Any]]:
    """Count classes, validation images and top-1 in percent of each group; an empty group has no top-1.

    Args:
        groups: of each class, from `frequency_groups`.
        labels: of the validation images ``(num_images,)``.
        predicted: their likeliest classes ``(num_images,)``.
    """
    figures: dict[str, dict[str, Any]] = {}
    for index, name in enumerate(GROUPS):
        chosen = groups[labels] == index
        figures[name] = {"classes": int((groups == index).sum()), "images": int(chosen.sum())}
        if chosen.any():
            figures[name]["top1"] = 100.0 * float((predicted == labels)[chosen].mean())
    return figures
