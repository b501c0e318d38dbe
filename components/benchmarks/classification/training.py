"""Training classifiers on a backbone with the loop that pretrains (components.training)."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from components import params
from components.benchmarks.classification.heads import ClassificationObjective, ranked_classes
from components.core import machine, paths
from components.core.errors import InputError
from components.data.classified import (
    ClassifiedDataset,
    ClassifiedTrainDataset,
    LabelledBatch,
    collate_labelled,
)
from components.data.loader import in_order_loader, visit_loader
from components.data.sampling import WHOLE_SHARD, Shard
from components.data.transforms import EvalTransform, TrainTransform
from components.sources.readers.types import ClassifiedImages
from components.training.checkpoints import CheckpointFolder, configuration_key
from components.training.distributed import ALONE, Processes, current
from components.training.loop import Log, train
from components.training.metrics import Diverged
from components.training.optimizer import autocast, check_precision
from components.training.state import TrainingState
from components.training.validation import Batch, ValBatches, evaluating, to_device

CROP_RATIO = (3 / 4, 4 / 3)  # width / height, as torchvision's RandomResizedCrop
NO_CLIPPING = 1e18  # these protocols do not clip gradients
KEEP_CHECKPOINTS = 2


@dataclass(frozen=True, slots=True)
class Machine:
    """Where to train, in which of several processes, and with how many workers that load images."""

    device: torch.device
    num_workers: int
    processes: Processes = ALONE

    @property
    def on_gpu(self) -> bool:
        """Whether batches go through page-locked memory."""
        return self.device.type == "cuda"

    @classmethod
    def here(cls) -> "Machine":
        """This one."""
        device = torch.device(machine.device_name())
        return cls(device, machine.loading_workers(device.type), current())

    @property
    def shard(self) -> Shard:
        """This process's part of every iteration and of the validation images."""
        return Shard(self.processes.rank, self.processes.count)


def iterations_per_epoch(num_images: int, batch_size: int) -> int:
    """Batches that see every image at least once; 5,005 for ImageNet in batches of 256."""
    return math.ceil(num_images / batch_size)


def fit(
    objective: ClassificationObjective,
    images: ClassifiedImages,
    val_batches: ValBatches,
    *,
    stage: str,
    settings: params.Classification,
    weight_decay: float,
    schedule: params.Schedule,
    inputs: dict[str, str],
    host: Machine,
    log: Log,
) -> tuple[TrainingState, CheckpointFolder]:
    """Train ``objective`` in place, from the newest checkpoint of this very configuration if there is one.

    Several processes may do so together (components.training.distributed).

    Args:
        images: to train on, with random crops and flips.
        val_batches: gives the batches of this process's shard of the validation images.
        stage: name of the section of params.yaml, and of the folder of checkpoints.
        schedule: from `cosine` or `multistep`.
        inputs: a digest of each input, the backbone among them, by name.
        log: receives ``train/...`` and ``val/...`` figures and the iterations done by then.

    Returns:
        The state after the last iteration, and the checkpoints, to be removed once results are written.

    Raises:
        KeyboardInterrupt: after SIGINT or SIGTERM, with a checkpoint written.
        InputError: if the loss is not finite, an image cannot be read, or the device lacks the precision.
    """
    torch.backends.cudnn.benchmark = host.on_gpu
    check_precision(host.device, settings.precision, key=f"{stage}.precision")
    dataset = ClassifiedTrainDataset(images, TrainTransform(_augmentation(settings)), settings.seed)
    key = configuration_key({stage: settings.model_dump(mode="json")}, inputs)
    checkpoints = CheckpointFolder(paths.SCRATCH_DIR / stage / key, key, KEEP_CHECKPOINTS)
    epoch = iterations_per_epoch(len(images.image_paths), settings.batch_size)
    try:
        state = train(
            objective,
            optimizer=classification_optimizer(settings, weight_decay),
            schedule=schedule,
            pretrain=params.Pretrain(
                seed=settings.seed,
                batch_size=settings.batch_size,
                accumulate=1,
                sync_batch_norm=False,
                precision=settings.precision,
                channels_last=True,
                compile=False,
                validate_every=epoch * settings.validate_every,
                checkpoint_every=settings.checkpoint_every,
                keep_checkpoints=KEEP_CHECKPOINTS,
                keep_candidates=1,
                log_every=settings.log_every,
                profile=False,
            ),
            train_batches=lambda done: visit_loader(
                dataset,
                collate_labelled,
                batch_size=settings.batch_size,
                start_iteration=done,
                num_iterations=schedule.iterations,
                num_workers=host.num_workers,
                pin_memory=host.on_gpu,
                shard=host.shard,
            ),
            val_batches=val_batches,
            checkpoints=checkpoints,
            device=host.device,
            log=log,
            processes=host.processes,
        )
    except Diverged as error:
        raise InputError(
            f"iteration {error.iteration}: the loss or its gradient is not finite. Lower "
            f"{stage}.learning_rate, choose {stage}.precision: fp32, or look whether the backbone's own "
            "pretraining has diverged."
        ) from error
    return state, checkpoints


def cosine(num_images: int, settings: params.Classification) -> params.Schedule:
    """From the whole learning rate to 0 over all epochs."""
    return _schedule("cosine", num_images, settings, [], 0.1)


def multistep(
    num_images: int, settings: params.Classification, milestones: list[int], gamma: float
) -> params.Schedule:
    """Times ``gamma`` after each of the epochs ``milestones``."""
    return _schedule("multistep", num_images, settings, milestones, gamma)


def labelled_batches(
    images: ClassifiedImages, settings: params.Classification, host: Machine, shard: Shard = WHOLE_SHARD
) -> Callable[[], Iterable[LabelledBatch]]:
    """Gives the batches of a shard of some images, in order, scaled and cropped for evaluation."""
    transform = EvalTransform(settings.image_size, settings.crop_size, settings.antialias)
    loader = in_order_loader(
        ClassifiedDataset(shard_of(images, shard), transform),
        collate_labelled,
        batch_size=shard.batch_size(settings.batch_size),
        num_workers=host.num_workers,
        pin_memory=host.on_gpu,
    )
    return lambda: loader


def shard_of(images: ClassifiedImages, shard: Shard) -> ClassifiedImages:
    """Every ``world_size``-th image, from the process's own number on."""
    part = slice(shard.rank, None, shard.world_size)
    return replace(images, image_paths=images.image_paths[part], labels=images.labels[part])


def rank_classes(
    objective: ClassificationObjective, batches: Iterable[Batch], device: torch.device, precision: str
) -> NDArray[np.int64]:
    """The likeliest classes of every image, best first: ``(num_heads, num_images, at most 5)``."""
    parts = []
    with evaluating(objective), torch.inference_mode():
        for batch in batches:
            with autocast(device, precision):
                logits = objective.logits(to_device(batch, device, torch.channels_last))
            parts.append(ranked_classes(logits).cpu())
    return torch.cat(parts, dim=1).numpy()


def _augmentation(settings: params.Classification) -> params.Augmentation:
    """Random crops and flips, no colour jitter."""
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


def classification_optimizer(settings: params.Classification, weight_decay: float) -> params.Optimizer:
    """Plain SGD with momentum; biases and BatchNorm decay like everything else."""
    return params.Optimizer(
        backbone_lr=settings.learning_rate,
        head_lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=weight_decay,
        no_weight_decay="(?!)",  # matches nothing
        lookahead_steps=0,
        lookahead_alpha=0.5,
        clip_grad_norm=NO_CLIPPING,
    )


def _schedule(
    name: Any, num_images: int, settings: params.Classification, milestones: list[int], gamma: float
) -> params.Schedule:
    epoch = iterations_per_epoch(num_images, settings.batch_size)
    return params.Schedule(
        name=name,
        iterations=epoch * settings.epochs,
        warmup_iterations=0,
        milestones=[epoch * milestone for milestone in milestones],
        gamma=gamma,
    )
