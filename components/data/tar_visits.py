"""The order of training images whose tars are on servers: how many tars a run needs at a time, and when."""

import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from components.core.errors import InputError
from components.data.dataset import TrainDataset
from components.data.sampling import ORDER_STREAM, Visits, generator
from components.data.store import CaptionStore
from components.data.tar_images import image_in_tar, read_place
from components.sources.download.tar_cache import GIB, TarCache, machine_cache
from components.sources.readers.types import RemoteTar


class _Plan(NamedTuple):
    """An epoch: its images in order, the group of each tar, and where in that order each group ends."""

    images: NDArray[np.int64]
    group_of_tar: NDArray[np.int64]
    ends: NDArray[np.int64]


class TarVisits(Visits):
    """Visits in the order of `Visits`, or in one that needs ``mixed`` tars at a time.

    An epoch then takes the tars in a random order of its own, a group of ``mixed`` after the other, and the
    images of a group at random; where one group has all tars it is the order of `Visits`. A loader's worker
    fetches ahead: the rest of the group, and from its middle on, when nobody needs the former one, the next.

    Args:
        tars: on servers.
        tar_of: the number of its tar, by position of the image, int64; -1: it is elsewhere.
        mixed: tars in a group; None: all.
        seed: of the run.
        cache: where tars are kept.

    Raises:
        InputError: the cache has no room for two groups of the largest tars.
    """

    def __init__(
        self,
        tars: Sequence[RemoteTar],
        tar_of: NDArray[np.int64],
        mixed: int | None,
        seed: int,
        cache: TarCache,
    ) -> None:
        super().__init__(len(tar_of), seed)
        self.tars = tars
        self.cache = cache
        self._tar_of = tar_of
        self._mixed = len(tars) if mixed is None else mixed
        self._before = cache.fetched()
        self._plans: dict[int, _Plan] = {}
        self._asked: tuple[int, int] | None = None
        largest = sorted((tar.size for tar in tars), reverse=True)[: 2 * self._mixed]
        if sum(largest) > cache.most_bytes:
            raise InputError(
                f"stream.cache_gib: {cache.most_bytes / GIB:.3g} is too little: the {len(largest)} tars that "
                f"are needed at a time have up to {sum(largest) / GIB:.3g} GiB; allow that much, or lower "
                "stream.mixed_tars, of which it has to hold twice as many"
            )

    def image(self, visit: int) -> int:
        """Return the index of the image that a visit sees; have its group of tars and the next one come."""
        if (worker := get_worker_info()) is not None:  # other processes may be forked while a tar comes
            wanted = self._wanted(*divmod(visit, self.num_images))
            if wanted != self._asked:
                self._asked = wanted
                self._fetch(*wanted, worker.id / worker.num_workers)
        return super().image(visit)

    def fetched_bytes(self) -> int:
        """Return what was fetched on this machine since these visits were made, when the stage started."""
        return self.cache.fetched().bytes - self._before.bytes

    def figures(self) -> dict[str, int]:
        """Return how many tars there are, how many were fetched since, and their bytes; say so."""
        found = {
            "tars": len(self.tars),
            "tars_bytes": sum(tar.size for tar in self.tars),
            "fetched_tars": self.cache.fetched().tars - self._before.tars,
            "fetched_bytes": self.fetched_bytes(),
        }
        print(
            f"fetched {found['fetched_tars']} tars, {found['fetched_bytes'] / 1e9:.3f} GB, since this stage "
            f"started, of a dataset of {found['tars']} tars, {found['tars_bytes'] / 1e9:.3f} GB",
            flush=True,
        )
        return found

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return self._plan(epoch).images

    def _plan(self, epoch: int) -> "_Plan":
        if epoch not in self._plans:
            if len(self._plans) == 2:  # as in `Visits`
                del self._plans[min(self._plans)]
            rng = generator(self.seed, ORDER_STREAM, epoch)
            images = rng.permutation(self.num_images)
            group_of_tar = rng.permutation(len(self.tars)) // self._mixed
            # Images that are elsewhere, number -1, go with the first group.
            group_of_image = np.append(group_of_tar, 0)[self._tar_of]
            ends = np.cumsum(np.bincount(group_of_image, minlength=int(group_of_tar.max()) + 1))
            images = images[np.argsort(group_of_image[images], kind="stable")]
            self._plans[epoch] = _Plan(images, group_of_tar, ends)
        return self._plans[epoch]

    def _wanted(self, epoch: int, position: int) -> tuple[int, int]:
        """Return epoch and number of the group to fetch."""
        ends = self._plan(epoch).ends
        group = int(np.searchsorted(ends, position, side="right"))
        start = int(ends[group - 1]) if group else 0
        if 2 * position < start + ends[group]:
            return epoch, group
        return (epoch, group + 1) if group + 1 < len(ends) else (epoch + 1, 0)

    def _fetch(self, epoch: int, group: int, start: float) -> None:
        """Begin to fetch a group, from a share of it on, so that workers begin with different tars."""
        numbers = np.flatnonzero(self._plan(epoch).group_of_tar == group)
        numbers = np.roll(numbers, -round(start * len(numbers)))
        tars = [self.tars[int(number)] for number in numbers]
        threading.Thread(target=_fetch, args=(self.cache, tars), name="tars-ahead", daemon=True).start()


def _fetch(cache: TarCache, tars: Iterable[RemoteTar]) -> None:
    for tar in tars:
        try:
            cache.open(tar).close()
        except (InputError, OSError):
            return  # whoever needs it says why


def tar_visits(
    store: CaptionStore, indices: NDArray[np.int64], mixed: int | None, seed: int, cache: TarCache
) -> TarVisits | None:
    """Return the visits of the records ``indices`` of a store; None if none of them is in a tar on a server.

    Reads every record, which of images in tars are short.

    Raises:
        InputError: as `TarVisits`.
    """
    numbers: dict[RemoteTar, int] = {}
    tar_of = np.full(len(indices), -1, np.int64)
    for position, index in enumerate(indices):
        place = read_place(store.get(int(index)).image)
        if place is not None and isinstance(place.tar, RemoteTar):
            tar_of[position] = numbers.setdefault(place.tar, len(numbers))
    return TarVisits(list(numbers), tar_of, mixed, seed, cache) if numbers else None


def stream_images(dataset: TrainDataset, mixed: int | None) -> TarVisits | None:
    """Have a dataset read images in tars; those on servers, if there are any, in an order of their own.

    Raises:
        InputError: as `TarVisits`.
    """
    dataset.read_image = image_in_tar
    seed = dataset.visits.seed
    visits = tar_visits(dataset.store, dataset.selection.indices, mixed, seed, machine_cache())
    dataset.visits = visits or dataset.visits
    return visits
