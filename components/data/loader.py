"""Batches from datasets, made by worker processes."""

import signal
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from components.core.errors import InputError
from components.data.batch import Batch, collate_targets
from components.data.dataset import ValDataset
from components.data.sampling import WHOLE_SHARD, Shard

# What torch says of it: a worker is killed as it writes there, or cannot make a file.
_FULL_SHARED_MEMORY = ("Bus error", "</torch_", "shared memory")
_Sample = TypeVar("_Sample")
_Batch = TypeVar("_Batch")


def visit_loader(
    dataset: Dataset[_Sample],
    collate: Callable[[list[_Sample]], _Batch],
    *,
    batch_size: int,
    start_iteration: int,
    num_iterations: int,
    num_workers: int,
    pin_memory: bool = False,
    shard: Shard = WHOLE_SHARD,
) -> Iterator[_Batch]:
    """Give the batches of iterations ``start_iteration`` to ``num_iterations - 1`` of a run, once.

    Iteration ``i``, from 0, takes visits ``i * batch_size`` to ``(i + 1) * batch_size - 1``. They are
    dealt to the processes in ``shard.accumulate`` rounds of one batch each, all of the same size. What
    comes is the same wherever the loader started and whatever the number of workers.

    Args:
        dataset: samples by visit (components.data.sampling).
        collate: makes one batch of samples.
        batch_size: images in every iteration; none has fewer.
        start_iteration: iterations already done, so the first one to come.
        num_iterations: iterations of the whole run, those already done included.
        num_workers: processes; 0 works in this one.
        pin_memory: copy batches into page-locked memory, for a GPU.
        shard: whose batches to give.

    Raises:
        InputError: if an iteration cannot be dealt out evenly.
    """
    shard.batch_size(batch_size)
    loader: DataLoader[Any] = _Loader(
        dataset,
        batch_sampler=_Visits(batch_size, range(start_iteration, num_iterations), shard),
        collate_fn=collate,
        pin_memory=pin_memory,
        **_workers(num_workers, persistent=False),
    )
    return iter(loader)


def val_loader(
    dataset: ValDataset,
    *,
    batch_size: int,
    num_workers: int,
    pin_memory: bool = False,
    shard: Shard = WHOLE_SHARD,
) -> DataLoader[Batch]:
    """Give batches of a validation set in order, as often as it is iterated; the last may be smaller.

    Of several processes each gets every ``world_size``-th image, from its own number on.
    """
    images = range(shard.rank, len(dataset), shard.world_size)
    return in_order_loader(
        dataset if len(images) == len(dataset) else Subset(dataset, images),
        collate_targets,
        batch_size=batch_size,
        num_workers=num_workers,
        pin_memory=pin_memory,
    )


def in_order_loader(
    dataset: Dataset[_Sample],
    collate: Callable[[list[_Sample]], _Batch],
    *,
    batch_size: int,
    num_workers: int,
    pin_memory: bool = False,
) -> DataLoader[_Batch]:
    """Give batches of a whole dataset in order, as often as it is iterated; the last may be smaller."""
    return _Loader(
        dataset,  # type: ignore[arg-type]  # typed by its samples; the loader by its batches
        batch_size=batch_size,
        collate_fn=collate,
        pin_memory=pin_memory,
        **_workers(num_workers, persistent=True),
    )


class _Loader(DataLoader[_Batch]):
    """A loader whose InputErrors read the same from a worker as from this process."""

    def __iter__(self) -> Iterator[_Batch]:  # type: ignore[override]  # torch names its own iterator class
        return _with_plain_errors(super().__iter__())


def _with_plain_errors(batches: Iterator[_Batch]) -> Iterator[_Batch]:
    try:
        yield from batches
    except InputError as error:
        # torch hands on a worker's error with the worker's traceback before its message
        name = f"{InputError.__module__}.{InputError.__qualname__}"
        raise InputError(str(error).rpartition(f"\n{name}: ")[2].strip()) from None
    except (RuntimeError, OSError) as error:
        if not any(sign in str(error) for sign in _FULL_SHARED_MEMORY):
            raise
        raise InputError(
            "the loader's workers have no room left for their batches in /dev/shm: enlarge it (containers: "
            "docker run --shm-size 8g, Kubernetes: an emptyDir of the medium Memory), start fewer "
            "workers with VIRTEX_NUM_WORKERS, or lower the stage's batch_size"
        ) from None


class _Visits(Sampler[list[int]]):
    """The visits of each of some iterations, those of one shard, a list per batch."""

    def __init__(self, batch_size: int, iterations: range, shard: Shard) -> None:
        self.batch_size = batch_size
        self.iterations = iterations
        self.shard = shard

    def __len__(self) -> int:
        return len(self.iterations) * self.shard.accumulate

    def __iter__(self) -> Iterator[list[int]]:
        size = self.shard.batch_size(self.batch_size)
        for iteration in self.iterations:
            for batch in range(self.shard.accumulate):
                place = batch * self.shard.world_size + self.shard.rank
                start = iteration * self.batch_size + place * size
                yield list(range(start, start + size))


def _workers(num_workers: int, persistent: bool) -> dict[str, Any]:
    """Return the options of worker processes.

    The loader gets a generator of its own: it draws a number from it whenever it is iterated, which
    must not move torch's global generator (dropout) of a run that was resumed.
    """
    options: dict[str, Any] = {"num_workers": num_workers, "generator": torch.Generator().manual_seed(0)}
    if num_workers:
        options |= {"persistent_workers": persistent, "worker_init_fn": _start_worker}
    return options


def _start_worker(_worker: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process is interrupted too and ends its workers
