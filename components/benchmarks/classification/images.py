"""Images of a classification benchmark: to train on, to measure on, held out, or as ready features."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components import params
from components.benchmarks.shared.features import Features, cached_features
from components.core import machine
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
from components.training.distributed import SINGLE_PROCESS, Processes, current
from components.training.validation import TrainBatches

CROP_RATIO = (3 / 4, 4 / 3)  # width / height, as torchvision's RandomResizedCrop
FEATURE_BATCH = 4096  # ready features of images in a batch


@dataclass(frozen=True, slots=True)
class Machine:
    """Where to train, in which of several processes, and with how many workers that load images."""

    device: torch.device
    num_workers: int
    processes: Processes = SINGLE_PROCESS

    @property
    def on_gpu(self) -> bool:
        """Whether batches go through page-locked memory."""
        return self.device.type == "cuda"

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
    dataset = ClassifiedTrainDataset(images, TrainTransform(_augmentation(settings)), settings.seed)
    return lambda done: visit_loader(
        dataset,
        collate_labelled,
        batch_size=settings.batch_size,
        start_iteration=done,
        num_iterations=num_iterations,
        num_workers=host.num_workers,
        pin_memory=host.on_gpu,
        shard=host.shard,
    )


def labelled_batches(
    images: ClassifiedImages, settings: params.Classification, host: Machine, shard: Shard = WHOLE_SHARD
) -> Callable[[], Iterable[LabelledBatch]]:
    """Return what gives batches of a shard of some images, in order, scaled and cropped for evaluation."""
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


def _chosen(images: ClassifiedImages, mask: NDArray[np.bool_]) -> ClassifiedImages:
    paths = [path for path, is_chosen in zip(images.image_paths, mask, strict=True) if is_chosen]
    return replace(images, image_paths=paths, labels=images.labels[mask])
