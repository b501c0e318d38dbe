"""Which part of an iteration's images one of several processes has."""

from dataclasses import dataclass

from components.core.errors import InputError


@dataclass(frozen=True, slots=True)
class Share:
    """The part of the work that one of several processes does; by default all of it.

    Attributes:
        rank: of the process, from 0.
        num_ranks: how many there are.
        accumulate: batches into which each divides what it has of an iteration.
    """

    rank: int = 0
    num_ranks: int = 1
    accumulate: int = 1

    def batch_size(self, num_images: int) -> int:
        """Images of a batch where an iteration has ``num_images``.

        Raises:
            InputError: if an iteration cannot be dealt out evenly.
        """
        num_batches = self.num_ranks * self.accumulate
        if num_images % num_batches:
            raise InputError(
                f"{num_images} images an iteration (`batch_size`) cannot be dealt evenly to "
                f"{self.num_ranks} processes in {self.accumulate} rounds (`accumulate`); choose a multiple "
                f"of {num_batches}, or another number of processes with VIRTEX_NUM_PROCESSES"
            )
        return num_images // num_batches


WHOLE = Share()
