"""Intervals of benchmark figures: bootstrap over test images.

A resample of the test images is how often each of them is drawn. Figures are computed under such counts,
for all resamples of a block at once: nothing is scored or sorted again, as scipy.stats.bootstrap would for
each resample. The counts follow from the number of images alone, so figures of two backbones on the same
images are resampled together, and the interval of their difference is that of pairs.

Bounds are percentiles of the resampled figures, shifted so that their mean is the figure itself. Average
precision needs the shift: images drawn twice raise it, by as much as a standard deviation where positives
are few, and plain or bias-corrected percentiles then miss (test_intervals.py measures coverage). An interval
says where the figure on other test images, as many of the same kind, would lie on average.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
SEED = 0
LEVEL = 0.95
BLOCK = 100  # resamples at once; keeps what is computed of them in the processor's cache

Array = NDArray[np.float64]
Counts = NDArray[np.float32]  # (num_images, resamples): how often each image was drawn; whole numbers
Statistic = Callable[[Counts], Mapping[str, Array]]  # figures by name, (resamples,) each; NaN where unknown


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds of a figure or of a difference, in its unit."""

    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        """Return whether a difference with these bounds may be none."""
        return self.low <= 0.0 <= self.high


def resampled(num_images: int, statistic: Statistic, resamples: int = RESAMPLES) -> dict[str, Array]:
    """Return the figures of ``statistic`` on resamples of the images, ``(resamples,)`` by name."""
    parts = [statistic(counts) for counts in resamples_of(num_images, resamples)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def resamples_of(num_images: int, resamples: int = RESAMPLES) -> Iterator[Counts]:
    """Yield the counts of ``resamples`` resamples in blocks; the same for the same number of images."""
    rng = np.random.default_rng([SEED, num_images])
    for start in range(0, resamples, BLOCK):
        size = min(BLOCK, resamples - start)
        drawn = rng.integers(num_images, size=(size, num_images))
        counts = np.stack([np.bincount(row, minlength=num_images) for row in drawn], axis=1)
        yield counts.astype(np.float32)


def interval(figure: float, draws: Array, within: tuple[float, float] = (-np.inf, np.inf)) -> Interval | None:
    """Return the bounds of ``figure`` from its resampled values, inside its range; None without any."""
    known = draws[~np.isnan(draws)]
    if not known.size:
        return None
    shift = figure - known.mean()
    if abs(shift) <= 3 * known.std() / np.sqrt(known.size):  # no more than chance of the resampling: a mean
        shift = 0.0
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) + shift
    low, high = np.clip([low, high], *within)  # the shift may leave the range
    return Interval(float(low), float(high))


def mean_statistic(values: Mapping[str, NDArray[np.generic]]) -> Statistic:
    """Return the statistic of means over images of ``values``, ``(num_images,)`` by name."""
    table = np.stack([np.asarray(column, dtype=np.float64) for column in values.values()])

    def means(counts: Counts) -> dict[str, Array]:
        return dict(zip(values, table @ counts / counts.sum(axis=0), strict=True))

    return means
