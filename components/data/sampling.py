"""Which images a process sees, in which order, and the random numbers it may draw for each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.core.errors import InputError

# SeedSequence keeps streams with different keys apart.
ORDER_STREAM = 0  # the images of an epoch, by epoch
VISIT_STREAM = 1  # caption, crop, flip, jitter and masks of a training visit, by visit
VALIDATION_STREAM = 2  # masks of a validation image, by index
SUBSET_IMAGES_STREAM = 3  # which images a run learns from
SUBSET_CAPTIONS_STREAM = 4  # which of its captions, by index of the image
GROUP_ORDER_STREAM = 5  # the images of an epoch of one group, by epoch and group


def generator(seed: int, stream: int, number: int = 0) -> np.random.Generator:
    """Return a new generator at its start."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, number)))


class Visits:
    """Order and chance of a training run, by visit: the number of images seen before in the whole run.

    Visit ``v`` is of image ``v mod N`` of epoch ``v div N``'s own random order, and has a generator of
    its own. Both depend on the seed and on nothing that ran before, so a run continues exactly from an
    iteration number alone. There is no end: any visit from 0 on exists.
    """

    def __init__(self, num_images: int, seed: int) -> None:
        self.num_images = num_images
        self.seed = seed
        self._orders: dict[int, NDArray[np.int64]] = {}

    def image(self, visit: int) -> int:
        """Return the index of the image that a visit sees."""
        epoch, position = divmod(visit, self.num_images)
        return int(self._order(epoch)[position])

    def generator(self, visit: int) -> np.random.Generator:
        """Return the random numbers of a visit, from their beginning."""
        return generator(self.seed, VISIT_STREAM, visit)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            if len(self._orders) == 2:  # a worker is in two epochs at most, at the seam
                self._orders.clear()
            self._orders[epoch] = generator(self.seed, ORDER_STREAM, epoch).permutation(self.num_images)
        return self._orders[epoch]


class GroupedVisits(Visits):
    """Visits of which every group of images has an equal part in each round of an iteration, in order.

    So a process that works on the same part of each round, as all do, sees images of the same groups ever.
    Whether one process or many work on an iteration, it has the same images. An epoch is each group's own:
    a group with fewer images begins its next one earlier.

    Args:
        groups: of the images, by position, integers from 0.
        num_groups: how many there are, each with at least one image.
        seed: of order and chance.
        batch_size: visits of an iteration.
        accumulate: rounds of an iteration.
    """

    def __init__(
        self, groups: NDArray[np.integer], num_groups: int, seed: int, batch_size: int, accumulate: int
    ) -> None:
        super().__init__(len(groups), seed)
        self.round_size = batch_size // accumulate
        self.part_size = self.round_size // num_groups
        self._members = [np.flatnonzero(groups == group) for group in range(num_groups)]
        self._newest: dict[int, tuple[int, NDArray[np.int64]]] = {}  # by group: the epoch and its order

    def image(self, visit: int) -> int:
        """Return the index of the image that a visit sees."""
        past, place = divmod(visit, self.round_size)
        group, place = divmod(place, self.part_size)
        members = self._members[group]
        epoch, position = divmod(past * self.part_size + place, len(members))
        if self._newest.get(group, (-1,))[0] != epoch:
            number = epoch * len(self._members) + group
            order = generator(self.seed, GROUP_ORDER_STREAM, number).permutation(members)
            self._newest[group] = epoch, order
        return int(self._newest[group][1][position])


@dataclass(frozen=True, slots=True)
class CropSizes:
    """Pixels of the training crops by iteration, that is, by visit: a worker's progress has no part in it.

    Attributes:
        batch_size: visits of an iteration.
        steps: first iteration, from 0, and pixels from there on, in order.
    """

    batch_size: int
    steps: tuple[tuple[int, int], ...]

    @classmethod
    def of(
        cls, pairs: Sequence[tuple[float, int]] | None, iterations: int, batch_size: int
    ) -> "CropSizes | None":
        """Return the sizes of a run of ``iterations`` from [fraction of them, pixels] pairs; None of None."""
        return (
            None
            if pairs is None
            else cls(batch_size, tuple((round(fraction * iterations), size) for fraction, size in pairs))
        )

    def at(self, iteration: int) -> int:
        """Return the pixels of an iteration, from 0."""
        return next(size for first, size in reversed(self.steps) if iteration >= first)

    def of_visit(self, visit: int) -> int:
        """Return the pixels of a visit."""
        return self.at(visit // self.batch_size)


@dataclass(frozen=True, slots=True)
class Shard:
    """The part of the work that one of several processes does; by default all of it.

    Attributes:
        rank: of the process, from 0.
        world_size: how many there are.
        accumulate: batches into which each divides what it has of an iteration.
    """

    rank: int = 0
    world_size: int = 1
    accumulate: int = 1

    def groups(self, num_groups: int) -> range:
        """Return those of ``num_groups`` equal parts of each round that this process works on."""
        return range(
            self.rank * num_groups // self.world_size, -(-(self.rank + 1) * num_groups // self.world_size)
        )

    def batch_size(self, num_images: int) -> int:
        """Return how many images a batch has where an iteration has ``num_images``.

        Raises:
            InputError: if an iteration cannot be dealt out evenly.
        """
        num_batches = self.world_size * self.accumulate
        if num_images % num_batches:
            raise InputError(
                f"{num_images} images per iteration (`batch_size`) cannot be divided evenly among "
                f"{self.world_size} processes in {self.accumulate} rounds (`accumulate`); choose a multiple "
                f"of {num_batches}, or another number of processes with VIRTEX_NUM_PROCESSES"
            )
        return num_images // num_batches


WHOLE_SHARD = Shard()
