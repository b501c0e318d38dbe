"""Which detections hit an object: what average precision and its interval are computed from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.benchmarks.shared.intervals import Array, Counts, Statistic
from components.benchmarks.shared.per_image import PerImage
from components.benchmarks.shared.resampled_precision import Ranking, interpolated_precision, known_mean

TRUE, FALSE, IGNORED = 1, -1, 0
Indices = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Matches:
    """The detections of one kind in all test images, and the objects that count.

    Attributes:
        images: of each detection, its position among the test images; a label's detections of equal scores
            rank in their order here.
        labels: of each detection.
        scores: of each detection.
        outcomes: ``(thresholds, detections)`` int8: TRUE, FALSE or IGNORED at each overlap.
        object_images: of each object.
        object_labels: of each object.
    """

    images: Indices
    labels: Indices
    scores: NDArray[np.float64]
    outcomes: NDArray[np.int8]
    object_images: Indices
    object_labels: Indices

    @classmethod
    def none(cls, thresholds: int) -> "Matches":
        """Return no detections and no objects."""
        return cls.of_image(0, 0, np.zeros(0), np.zeros((thresholds, 0), np.int8), 0)

    @classmethod
    def of_image(
        cls, image: int, label: int, scores: NDArray[np.floating], outcomes: NDArray[np.int8], objects: int
    ) -> "Matches":
        """Return those of one label in one image, which has ``objects`` of it that count."""
        count = len(scores)
        return cls(
            np.full(count, image, np.int32),
            np.full(count, label, np.int32),
            scores.astype(np.float64),
            outcomes,
            np.full(objects, image, np.int32),
            np.full(objects, label, np.int32),
        )

    @classmethod
    def joined(cls, parts: Sequence["Matches"]) -> "Matches":
        """Return all of ``parts``, one at least, in their order."""
        columns = ([getattr(part, field.name) for part in parts] for field in fields(cls))
        return cls(*(np.concatenate(column, axis=-1) for column in columns))

    def statistic(
        self, figures: Mapping[str, tuple[Sequence[int], Sequence[int]]], recalls: Array
    ) -> Statistic:
        """Return the statistic of means of average precision, in percent.

        Args:
            figures: by name, the labels and the thresholds, by index, over which it is the mean.
            recalls: at which precision is taken.
        """
        labels = sorted({label for chosen, _ in figures.values() for label in chosen})
        thresholds = sorted({threshold for _, chosen in figures.values() for threshold in chosen})
        rankings = {(one, at): self._ranking(one, at) for one in labels for at in thresholds}
        objects = {one: self.object_images[self.object_labels == one] for one in labels}

        def means(counts: Counts) -> dict[str, Array]:
            numbers = {one: counts[images].sum(axis=0) for one, images in objects.items()}
            table = {
                key: interpolated_precision(ranking, numbers[key[0]], counts, recalls)
                for key, ranking in rankings.items()
            }
            return {
                name: 100.0 * known_mean(np.stack([table[one, at] for one in ones for at in ats]))
                for name, (ones, ats) in figures.items()
            }

        return means

    def _ranking(self, label: int, threshold: int) -> Ranking:
        outcomes = self.outcomes[threshold]
        kept = np.flatnonzero((self.labels == label) & (outcomes != IGNORED))
        return Ranking.of(self.images[kept], self.scores[kept], outcomes[kept] == TRUE, ties=False)


def by_image(
    scores: Mapping[str, Mapping[str, Any]],
    image_ids: Sequence[int | str],
    recalls: Array,
    groups: Mapping[str, Sequence[int]],
) -> PerImage:
    """Return what the scores of COCO, LVIS or VOC are image by image, their AP, AP50 and AP75 resampled.

    Args:
        scores: percent and ``matches`` by kind.
        image_ids: of the test images.
        recalls: at which precision is taken.
        groups: labels by the name of a further figure, over which it is the mean, such as APr.
    """
    figures: dict[str, float] = {}
    statistics: list[Statistic] = []
    results: dict[str, NDArray[Any]] = {}
    for kind, group in scores.items():
        matches: Matches = group["matches"]
        everything, overlaps = range(len(group["classes"])), range(len(matches.outcomes))
        parts = {
            "AP": (everything, overlaps),
            "AP50": (everything, overlaps[:1]),
            "AP75": (everything, overlaps[5:6]),
            **{name: (labels, overlaps) for name, labels in groups.items()},
        }
        known = {f"{kind}.{name}": part for name, part in parts.items() if group[name] is not None}
        figures |= {name: float(group[name.removeprefix(f"{kind}.")]) for name in known}
        statistics.append(matches.statistic(known, recalls))
        results |= {f"{kind}/{field.name}": getattr(matches, field.name) for field in fields(Matches)}

    def all_kinds(counts: Counts) -> dict[str, Array]:
        return {name: draws for statistic in statistics for name, draws in statistic(counts).items()}

    return PerImage.measured([str(one) for one in image_ids], figures, all_kinds, results)
