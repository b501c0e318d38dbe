"""Training classifiers on a backbone with the loop that pretrains (components.training), and their images."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from components import params
from components.benchmarks.classification.heads import ClassificationObjective, ranked_classes
from components.core import machine, paths
from components.core.logs import own_logger
from components.core.memory import batch_bytes, require_memory
from components.data.classified import (
    ClassifiedDataset,
    ClassifiedTrainDataset,
    LabelledBatch,
    collate_labelled,
)
from components.data.loader import in_order_loader, visit_loader
from components.data.sampling import WHOLE_SHARD, Shard
from components.data.transforms import EvalTransform, TrainTransform
from components.params.reading import section_name
from components.sources.readers.types import ClassifiedImages
from components.training.checkpoints import CheckpointFolder, configuration_key
from components.training.distributed import SINGLE_PROCESS, Processes, current
from components.training.loop import Log, LoopOptions, train
from components.training.optimizer import Multiplier, autocast, parameter_groups, sgd
from components.training.state import TrainingState
from components.training.validation import Batch, TrainBatches, ValBatches, evaluating, to_device

KEEP_CHECKPOINTS = 2
# Of both protocols of the paper
PAPERS_IMAGES = {"image_size": 256, "crop_size": 224, "batch_size": 256, "epochs": 100, "momentum": 0.9}
CROP_RATIO = (3 / 4, 4 / 3)  # width / height, as torchvision's RandomResizedCrop

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


@dataclass(frozen=True, slots=True)
class Machine:
    """Place of a training: device, rank among the processes, and workers that load images."""

    device: torch.device
    num_workers: int
    processes: Processes = SINGLE_PROCESS

    @classmethod
    def here(cls) -> "Machine":
        """Return this one."""
        device = torch.device(machine.device_name())
        return cls(device, machine.loading_workers(device.type), current())

    @property
    def shard(self) -> Shard:
        """This process's part of every iteration and of the validation images."""
        return Shard(self.processes.rank, self.processes.count)


def train_batches(
    images: ClassifiedImages, settings: params.Classification, num_iterations: int, host: Machine
) -> TrainBatches:
    """Return what gives this process's batches of the iterations after some, with random crops and flips."""
    name = section_name(type(settings))
    keys = f"a batch ({name}.batch_size {settings.batch_size}, {name}.crop_size {settings.crop_size})"
    part_size = host.shard.batch_size(settings.batch_size)
    require_memory(str(host.device), {keys: batch_bytes(part_size, settings.crop_size)})
    dataset = ClassifiedTrainDataset(images, TrainTransform(_augmentation(settings)), settings.seed)
    return lambda done: visit_loader(
        dataset,
        collate_labelled,
        batch_size=settings.batch_size,
        start_iteration=done,
        num_iterations=num_iterations,
        num_workers=host.num_workers,
        shard=host.shard,
    )


def labelled_batches(
    images: ClassifiedImages, settings: params.Classification, host: Machine, shard: Shard = WHOLE_SHARD
) -> Callable[[], Iterable[LabelledBatch]]:
    """Return what gives batches of a shard of some images, in order, scaled and cropped for evaluation."""
    part = images.chosen(np.arange(shard.rank, len(images.labels), shard.world_size))
    transform = EvalTransform(settings.image_size, settings.crop_size, settings.antialias)
    loader = in_order_loader(
        ClassifiedDataset(part, transform),
        collate_labelled,
        batch_size=shard.batch_size(settings.batch_size),
        num_workers=host.num_workers,
    )
    return lambda: loader


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
    torch.backends.cudnn.benchmark = host.device.type == "cuda"
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


def _augmentation(settings: params.Classification) -> params.Augmentation:
    """Return the section of random crops and flips, without colour jitter."""
    return params.Augmentation(
        crop_size=settings.crop_size,
        crop_scale=settings.crop_scale,
        crop_ratio=CROP_RATIO,
        antialias=settings.antialias,
        flip_probability=0.5,
        jitter_probability=0.0,
        brightness=0.0,
        contrast=0.0,
        saturation=0.0,
        hue=0.0,
    )
