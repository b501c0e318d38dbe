"""The training batches of one process."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from components.benchmarks.detection.samples import Sample, Target, TrainSamples, Visits
from components.training.distributed import Processes


def part_batches(
    samples: TrainSamples,
    visits: Visits,
    start: int,
    iterations: int,
    num_workers: int,
    processes: Processes,
) -> Iterator[list[Sample]]:
    """This process's part of every iteration's samples."""
    loader: DataLoader[Any] = DataLoader(
        samples,
        batch_sampler=[batch[part_of(processes)] for batch in visits.batches(start, iterations)],
        collate_fn=list,
        num_workers=num_workers,
        generator=torch.Generator().manual_seed(0),
        worker_init_fn=_start_worker,
    )
    return iter(loader)


def part_of(processes: Processes) -> slice:
    """Which of an iteration's images are this process's."""
    return slice(processes.rank, None, processes.count)


def _start_worker(_worker: int) -> None:
    torch.set_num_threads(1)


def to_device(batch: list[Sample], device: torch.device) -> tuple[list[Tensor], list[Target]]:
    """The images, and the targets with their arrays as tensors."""
    images = [image.to(device, non_blocking=True) for image, _ in batch]
    targets: list[Any] = [
        {name: torch.as_tensor(value).to(device, non_blocking=True) for name, value in target.items()}
        for _, target in batch
    ]
    return images, targets
