"""Training visits: which image each one sees, and the random numbers it may draw."""

import numpy as np
from numpy.typing import NDArray

from components.data.random_streams import ORDER_STREAM, VISIT_STREAM, generator


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
        """Index of the image that a visit sees."""
        epoch, position = divmod(visit, self.num_images)
        return int(self._order(epoch)[position])

    def generator(self, visit: int) -> np.random.Generator:
        """The random numbers of a visit, from their beginning."""
        return generator(self.seed, VISIT_STREAM, visit)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            if len(self._orders) == 2:  # a worker is in two epochs at most, at the seam
                self._orders.clear()
            self._orders[epoch] = generator(self.seed, ORDER_STREAM, epoch).permutation(self.num_images)
        return self._orders[epoch]
