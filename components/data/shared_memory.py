"""Memory for the images of batches, shared by a loader and its workers and used again and again.

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
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from components.data.batch import Together

_numbers = itertools.count()
_pools: "weakref.WeakValueDictionary[int, Pool]" = weakref.WeakValueDictionary()


def is_possible() -> bool:
    """Return whether worker processes inherit files without a name: on Linux, if they are forked."""
    return hasattr(os, "memfd_create") and multiprocessing.get_start_method() == "fork"


class Request(list[int]):
    """Numbers of a batch's samples, and the piece of memory for its images; None if there is none."""

    piece: int | None = None


class Pool:
    """Pieces of shared memory. Each grows to what is put into it; what was never used takes no room."""

    def __init__(self, count: int) -> None:
        self.number = next(_numbers)
        self._files = [os.memfd_create("virtex-batch") for _ in range(count)]
        self._maps: dict[int, mmap.mmap] = {}
        self._free = list(range(count))  # the last one let go of is the next one used: few are ever filled
        _pools[self.number] = self
        weakref.finalize(self, _close, self._files)

    def requests(self, batches: Iterable[Iterable[int]]) -> Iterator[Request]:
        """Yield the batches of a sampler, each with a piece that is free at that time."""
        for batch in batches:
            request = Request(batch)
            request.piece = self._free.pop() if self._free else None
            yield request

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
