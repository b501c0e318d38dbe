"""Average precision on resamples of the test images, many at once.

A list is sorted once. Under the counts of a resample (see intervals.py) an entry stands as often as its image
was drawn, so precision at an entry is a ratio of two running sums, which are needed at true entries only.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.benchmarks.shared.intervals import Array, Counts, Statistic

Places = NDArray[np.signedinteger[Any]]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Entries of one list by falling score, cut into runs that end at true entries.

    Attributes:
        images: the image of each entry, up to the last true one.
        starts: where each run starts.
        true_images: the images of the true entries.
        true_starts: which of these is the first of each run.
    """

    images: Places
    starts: Places
    true_images: Places
    true_starts: Places

    @classmethod
    def of(cls, images: Places, scores: Array, is_true: NDArray[np.bool_], ties: bool) -> "Ranking":
        """Sort entries; with ``ties`` those of equal scores count together, else each in its order."""
        order = np.argsort(-scores, kind="stable")
        images, scores, places = images[order], scores[order], np.flatnonzero(is_true[order])
        ends = np.searchsorted(-scores, -scores[places], side="right") if ties else places + 1
        ends = np.unique(ends)
        starts = np.concatenate([[0], ends[:-1]]).astype(np.intp)
        last = int(ends[-1]) if len(ends) else 0
        return cls(
            images[:last], starts[: len(ends)], images[places], np.searchsorted(places, starts[: len(ends)])
        )

    def running(self, counts: Counts) -> tuple[Counts, Counts]:
        """Return precision and the number of true entries at the end of each run, ``(runs, resamples)``."""
        entries = np.cumsum(np.add.reduceat(counts[self.images], self.starts), axis=0)
        true = np.cumsum(np.add.reduceat(counts[self.true_images], self.true_starts), axis=0)
        return true / np.maximum(entries, 1), true


def mean_step_precision(labels: NDArray[np.int8], scores: NDArray[np.floating]) -> Statistic:
    """Return the statistic ``mAP``, in percent, of classes as VOC07 classification scores them.

    Args:
        labels: ``(num_images, num_classes)`` of 1 (present), -1 (absent) and 0 (left out).
        scores: ``(num_images, num_classes)``.
    """
    rankings = []
    for column, own in zip(labels.T, scores.T, strict=True):
        kept = np.flatnonzero(column)
        rankings.append(Ranking.of(kept, own[kept].astype(np.float64), column[kept] > 0, ties=True))

    def mean(counts: Counts) -> dict[str, Array]:
        return {"mAP": 100.0 * known_mean(np.stack([step_precision(one, counts) for one in rankings]))}

    return mean


def step_precision(ranking: Ranking, counts: Counts) -> Array:
    """Return the area under the steps of precision and recall, ``(resamples,)``; NaN without positives."""
    if not len(ranking.starts):
        return np.full(counts.shape[1], np.nan)
    precision, true = ranking.running(counts)
    gained = np.diff(true, axis=0, prepend=np.float32(0))
    with np.errstate(invalid="ignore"):
        return np.asarray((gained * precision).sum(axis=0, dtype=np.float64) / true[-1])


def interpolated_precision(ranking: Ranking, objects: Counts, counts: Counts, recalls: Array) -> Array:
    """Return the mean over ``recalls`` of the best precision at that recall or beyond, ``(resamples,)``.

    Args:
        ranking: of detections.
        objects: how many true objects a resample has, ``(resamples,)``; NaN results where none.
        counts: of images.
        recalls: rising, the first 0.
    """
    known = np.where(objects > 0, 0.0, np.nan)
    if not len(ranking.starts):
        return known
    precision, true = ranking.running(counts)
    best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    reached = np.searchsorted(recalls, true.astype(np.float64) / np.maximum(objects, 1), side="right")
    shares = np.diff(reached, axis=0, prepend=0)
    return known + np.asarray((best * shares).sum(axis=0, dtype=np.float64) / len(recalls))


def known_mean(rows: Array) -> Array:
    """Return the mean over the first axis of what is not NaN; NaN where nothing is known."""
    known = ~np.isnan(rows)
    counted = known.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, rows, 0.0).sum(axis=0) / counted)


def prevalence(labels: NDArray[np.int8]) -> float:
    """Return the mAP, in percent, that ranking at random tends to: the mean share of positives of a class.

    Labels as in `mean_step_precision`.
    """
    return 100.0 * float(np.mean((labels > 0).sum(axis=0) / np.maximum((labels != 0).sum(axis=0), 1)))
