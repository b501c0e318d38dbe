"""Training classifiers on a backbone with the loop that pretrains (components.training)."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from components import params
from components.benchmarks.classification.heads import ClassificationObjective, ranked_classes
from components.benchmarks.classification.images import Machine, train_batches
from components.core import paths
from components.core.logs import own_logger
from components.sources.readers.types import ClassifiedImages
from components.training.checkpoints import CheckpointFolder, configuration_key
from components.training.loop import Log, LoopOptions, train
from components.training.optimizer import autocast, parameter_groups, sgd
from components.training.schedules import Multiplier
from components.training.state import TrainingState
from components.training.validation import Batch, ValBatches, evaluating, to_device

KEEP_CHECKPOINTS = 2
# Of both protocols of the paper
PAPERS_IMAGES = {"image_size": 256, "crop_size": 224, "batch_size": 256, "epochs": 100, "momentum": 0.9}

_logger = own_logger(__name__)


@dataclass(frozen=True, slots=True)
class Paper:
    """What makes a run one of the paper's.

    Attributes:
        dataset: for people.
        num_classes: of the dataset.
        settings: values of the stage's section that belong to it.
    """

    dataset: str
    num_classes: int
    settings: Mapping[str, Any]

    def warn_of_other_classes(self, stage: str, settings: params.Classification, num_classes: int) -> bool:
        """Log a warning where ``settings`` are the paper's and the data are not; return whether it did."""
        is_papers = all(getattr(settings, name) == value for name, value in self.settings.items())
        if not is_papers or num_classes == self.num_classes:
            return False
        _logger.warning(
            "%s: the protocol is the paper's, but the data have %d classes and %s has %d: the figures are "
            "not comparable with the paper's; look at download.folders and download.published",
            stage,
            num_classes,
            self.dataset,
            self.num_classes,
        )
        return True


def iterations_per_epoch(num_images: int, batch_size: int) -> int:
    """Return the batches that see every image at least once; 5,005 for ImageNet in batches of 256."""
    return math.ceil(num_images / batch_size)


def num_iterations(num_images: int, settings: params.Classification) -> int:
    """Return the iterations of all epochs."""
    return iterations_per_epoch(num_images, settings.batch_size) * settings.epochs


def fit(
    objective: ClassificationObjective,
    images: ClassifiedImages,
    val_batches: ValBatches,
    *,
    stage: str,
    settings: params.Classification,
    weight_decay: float,
    schedule: Multiplier,
    inputs: dict[str, str],
    host: Machine,
    log: Log,
) -> tuple[TrainingState, CheckpointFolder]:
    """Train ``objective`` in place, from the newest checkpoint of this very configuration if there is one.

    By plain SGD with momentum, without clipping. Several processes may do so together
    (components.training.distributed).

    Args:
        images: to train on, with random crops and flips.
        val_batches: gives the batches of this process's shard of the validation images.
        stage: name of the section of params.yaml, and of the folder of checkpoints.
        weight_decay: of all parameters, biases and BatchNorm too.
        schedule: factor on the learning rate by iteration.
        inputs: a digest of each input, the backbone among them, by name.
        log: receives ``train/...`` and ``val/...`` figures and the iterations done by then.

    Returns:
        The state after the last iteration, and the checkpoints, to be removed once results are written.

    Raises:
        KeyboardInterrupt: after SIGINT or SIGTERM, with a checkpoint written.
        InputError: if the loss is not finite, an image cannot be read, or the device lacks the precision.
    """
    torch.backends.cudnn.benchmark = host.on_gpu
    key = configuration_key({stage: settings.model_dump(mode="json")}, inputs)
    checkpoints = CheckpointFolder(paths.SCRATCH_DIR / stage / key, key, KEEP_CHECKPOINTS)
    epoch = iterations_per_epoch(len(images.image_paths), settings.batch_size)
    options = LoopOptions(
        iterations=num_iterations(len(images.image_paths), settings),
        validate_every=epoch * settings.validate_every,
        checkpoint_every=settings.checkpoint_every,
        log_every=settings.log_every,
        section=stage,
        advice=f"Lower {stage}.learning_rate, choose {stage}.precision: fp32, or look whether the backbone's "
        "own pretraining has diverged.",
        precision=settings.precision,
        seed=settings.seed,
    )
    state = train(
        objective.to(host.device).to(memory_format=torch.channels_last),
        plain_sgd(objective, settings, weight_decay),
        schedule,
        options,
        train_batches=train_batches(images, settings, options.iterations, host),
        val_batches=val_batches,
        checkpoints=checkpoints,
        log=log,
        processes=host.processes,
    )
    return state, checkpoints


def plain_sgd(
    objective: ClassificationObjective, settings: params.Classification, weight_decay: float
) -> torch.optim.SGD:
    """Return SGD with momentum; biases and BatchNorm decay like everything else."""
    rate = settings.learning_rate
    groups = parameter_groups(objective, backbone_lr=rate, head_lr=rate, weight_decay=weight_decay)
    return sgd(groups, settings.momentum)


def rank_classes(
    objective: ClassificationObjective, batches: Iterable[Batch], device: torch.device, precision: str
) -> NDArray[np.int64]:
    """Return the likeliest classes of every image, best first: ``(num_heads, num_images, at most 5)``."""
    parts = []
    with evaluating(objective), torch.inference_mode():
        for batch in batches:
            with autocast(device, precision):
                logits = objective.logits(to_device(batch, device, torch.channels_last))
            parts.append(ranked_classes(logits).cpu())
    return torch.cat(parts, dim=1).numpy()
