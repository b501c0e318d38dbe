"""Batches from datasets, made by worker processes in memory that they and the loader share.

torch makes new shared memory for every batch: the system has to find pages, fill them with zeros, map them
in two processes and take them back, which costs more than the images' way through them. Here as many pieces
as a loader has batches on their way are made before its workers are forked. A batch is asked for with the
number of a free piece, and a piece is free again when the last tensor that lies in it is gone. Whoever keeps
more batches than there are pieces gets the rest as torch makes them.
"""

import itertools
import math
import mmap
import multiprocessing
import os
import signal
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, SequentialSampler, Subset

from components.core import machine
from components.core.errors import InputError
from components.data.batch import Batch, Together, collate_targets
from components.data.dataset import ValDataset
from components.data.sampling import WHOLE_SHARD, Shard

# What torch says of it: a worker is killed as it writes there, or cannot make a file.
_FULL_SHARED_MEMORY = ("Bus error", "</torch_", "shared memory")
_AHEAD = 2  # batches that torch has a worker make ahead
_HELD = 3  # batches in use: what the caller has, what is pinned, what accumulation gathers
_numbers = itertools.count()
_pools: "weakref.WeakValueDictionary[int, Pool]" = weakref.WeakValueDictionary()
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
        shard: whose batches to give.

    Raises:
        InputError: if an iteration cannot be dealt out evenly.
    """
    shard.batch_size(batch_size)
    visits = _Visits(batch_size, range(start_iteration, num_iterations), shard)
    return iter(_Loader(dataset, collate, visits, num_workers, persistent=False))


def val_loader(
    dataset: ValDataset,
    *,
    batch_size: int,
    num_workers: int,
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
    )


def in_order_loader(
    dataset: Dataset[_Sample],
    collate: Callable[[list[_Sample]], _Batch],
    *,
    batch_size: int,
    num_workers: int,
) -> DataLoader[_Batch]:
    """Give batches of a whole dataset in order, as often as it is iterated; the last may be smaller."""
    in_order = BatchSampler(SequentialSampler(dataset), batch_size, drop_last=False)  # type: ignore[arg-type]
    return _Loader(dataset, collate, in_order, num_workers, persistent=True)


class _Loader(DataLoader[Any]):
    """A loader whose workers use their memory again, and whose InputErrors read the same from all processes.

    It gets a generator of its own: it draws a number from it whenever it is iterated, which must not move
    torch's global generator (dropout) of a run that was resumed.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        collate: Callable[[list[Any]], Any],
        batches: Sampler[list[int]],
        num_workers: int,
        persistent: bool,
    ) -> None:
        options: dict[str, Any] = {}
        if num_workers:
            options = {"persistent_workers": persistent, "worker_init_fn": _start_worker}
        if num_workers and memory_is_shared():
            pool = Pool(num_workers * _AHEAD + _HELD)
            batches = Requests(batches, pool)
            dataset = Placing(dataset, collate, pool)
            collate = dataset.collate
        super().__init__(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=num_workers,
            pin_memory=machine.uses_gpu(),  # page-locked memory, which a GPU copies from at once
            generator=torch.Generator().manual_seed(0),
            **options,
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch names its own iterator class
        return _with_plain_errors(super().__iter__())


def _with_plain_errors(batches: Iterator[Any]) -> Iterator[Any]:
    try:
        for batch in batches:
            if isinstance(batch, dict) and isinstance(place := batch.get("image"), Placed):
                batch["image"] = place.tensor()
            yield batch
            del batch  # so that its memory is free as soon as the caller lets go of it
    except InputError as error:
        # torch hands on a worker's error with the worker's traceback before its message
        kind = type(error)  # or one that says to try again
        name = f"{kind.__module__}.{kind.__qualname__}"
        raise kind(str(error).rpartition(f"\n{name}: ")[2].strip()) from None
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


def _start_worker(_worker: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process is interrupted too and ends its workers


def memory_is_shared() -> bool:
    """Return whether worker processes inherit files without a name: on Linux, if they are forked."""
    return hasattr(os, "memfd_create") and multiprocessing.get_start_method() == "fork"


class Request(list[int]):
    """Numbers of a batch's samples, and the piece of memory for its images; None if there is none."""

    piece: int | None = None


class Requests(Sampler[list[int]]):
    """The batches of another sampler, each with a piece that is free when it is asked for."""

    def __init__(self, batches: Sampler[list[int]], pool: "Pool") -> None:
        self.batches = batches
        self.pool = pool

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]  # all of ours have a length

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches:
            request = Request(batch)
            request.piece = self.pool.take()
            yield request


class Pool:
    """Pieces of shared memory. Each grows to what is put into it; what was never used takes no room."""

    def __init__(self, count: int) -> None:
        self.number = next(_numbers)
        self._files = [os.memfd_create("virtex-batch") for _ in range(count)]
        self._maps: dict[int, mmap.mmap] = {}
        self._free = list(range(count))  # the last one let go of is the next one used: few are ever filled
        _pools[self.number] = self
        weakref.finalize(self, _close, self._files)

    def take(self) -> int | None:
        """Return a piece that was free until now; None if there is none."""
        return self._free.pop() if self._free else None

    def tensor(self, piece: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return the tensor that lies in a piece, in whichever process; its values are what was put there."""
        return _as_tensor(self._bytes(piece, math.prod(shape) * dtype.itemsize), shape, dtype)

    def lent(self, placed: "Placed") -> Tensor:
        """Return the images of a batch; the piece is free again when no tensor is left that shares them."""
        array = self._bytes(placed.piece, math.prod(placed.shape) * placed.dtype.itemsize)
        weakref.finalize(array, self._free.append, placed.piece).atexit = False
        return _as_tensor(array, placed.shape, placed.dtype)

    def _bytes(self, piece: int, size: int) -> np.ndarray:
        mapped = self._maps.get(piece)
        if mapped is None or len(mapped) < size:
            file = self._files[piece]
            if os.fstat(file).st_size < size:
                os.ftruncate(file, size)
            mapped = self._maps[piece] = mmap.mmap(file, size)
        return np.frombuffer(mapped, np.uint8, size)


def _as_tensor(array: np.ndarray, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(array).view(dtype).view(*shape)


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)


@dataclass(frozen=True, slots=True)
class Placed:
    """Says in which piece of which pool the images of a batch lie; goes from a worker to the loader."""

    pool: int
    piece: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    def tensor(self) -> Tensor:
        """Return the images, in the loader's process."""
        return _pools[self.pool].lent(self)

    def pin_memory(self, *_device: object) -> Tensor:
        """Return the images in page-locked memory, as the loader's thread for that asks of batches."""
        return self.tensor().pin_memory()


class Placing(Dataset[Any]):
    """A dataset whose samples' images are put beside each other where the request says."""

    def __init__(self, dataset: Dataset[Any], collate: Callable[[list[Any]], Any], pool: Pool) -> None:
        self._dataset = dataset
        self._collate = collate
        self._pool = pool

    def __getitems__(self, request: Request) -> list[Any]:
        """Return the samples; each image is copied at once, while it is in the processor's cache."""
        if request.piece is None:
            return [self._dataset[index] for index in request]
        samples = Together()
        for place, index in enumerate(request):
            sample = self._dataset[index]
            image = sample["image"]
            if not place:
                shape = (len(request), *image.shape)
                samples.images = self._pool.tensor(request.piece, shape, image.dtype)
                samples.piece = request.piece
            if image.shape != samples.images.shape[1:]:
                raise ValueError(f"images of {tuple(image.shape)} and {shape[1:]} in one batch")
            samples.images[place].copy_(image)
            samples.append({**sample, "image": samples.images[place]})
        return samples

    def collate(self, samples: list[Any]) -> Any:
        """Make a batch that names the place of its images."""
        batch = self._collate(samples)
        if isinstance(samples, Together):
            shape, dtype = tuple(samples.images.shape), samples.images.dtype
            batch["image"] = Placed(self._pool.number, samples.piece, shape, dtype)
        return batch
