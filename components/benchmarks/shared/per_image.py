"""Results of a benchmark by image, in a file from which intervals and differences come.

The file is a .npz: ``images``, names of the test images in their order; under ``figures/`` what metrics.json
has of a figure, under ``draws/`` its values on resamples of the images (see intervals.py); and whatever else
the benchmark keeps of its images, such as scores and labels.
"""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.benchmarks.shared.intervals import Array, Interval, Statistic, interval, resampled
from components.core.errors import InputError
from components.core.files import writing

FILE = "per_image.npz"
PERCENT = (0.0, 100.0)
RANGES = {"CIDEr-D": (0.0, 1000.0)}  # of figures that are no percentages
_FIGURES, _DRAWS = "figures/", "draws/"


@dataclass(frozen=True, slots=True)
class PerImage:
    """Results on test images.

    Attributes:
        images: names of the test images, the same for the same images wherever they lie.
        figures: by name, in the unit of metrics.json.
        draws: the figures' values on resamples, by name.
        results: all else, by name.
    """

    images: Sequence[str]
    figures: Mapping[str, float]
    draws: Mapping[str, Array]
    results: Mapping[str, NDArray[Any]]

    @classmethod
    def measured(
        cls,
        images: Sequence[str],
        figures: Mapping[str, float],
        statistic: Statistic,
        results: Mapping[str, NDArray[Any]],
    ) -> "PerImage":
        """Resample the images; ``statistic`` has at least the names of ``figures``."""
        draws = resampled(len(images), statistic)
        return cls(images, figures, {name: draws[name] for name in figures}, results)

    @classmethod
    def nothing(cls) -> "PerImage":
        """Return the results of a benchmark that is not run."""
        return cls((), {}, {}, {})

    @classmethod
    def joined(cls, parts: Sequence["PerImage"]) -> "PerImage":
        """Return all figures of ``parts``, whose names differ; images in their order, each once."""
        figures: dict[str, float] = {}
        draws: dict[str, Array] = {}
        results: dict[str, NDArray[Any]] = {}
        for part in parts:
            figures |= part.figures
            draws |= part.draws
            results |= part.results
        images = dict.fromkeys(name for part in parts for name in part.images)
        return cls(list(images), figures, draws, results)

    def intervals(self) -> dict[str, dict[str, float]]:
        """Return ``low`` and ``high`` of each figure, for metrics.json."""
        bounds = {
            name: interval(figure, self.draws[name], within=RANGES.get(name, PERCENT))
            for name, figure in self.figures.items()
        }
        return {name: {"low": one.low, "high": one.high} for name, one in bounds.items() if one}

    def difference(self, other: "PerImage", name: str) -> tuple[float, Interval] | None:
        """Return how much higher a figure is than ``other``'s on the same images, and its bounds.

        None where one of both has no such figure, or the images are others.
        """
        if name not in self.figures or name not in other.figures or tuple(self.images) != tuple(other.images):
            return None
        value = self.figures[name] - other.figures[name]
        bounds = interval(value, self.draws[name] - other.draws[name])
        return (value, bounds) if bounds else None

    def write(self, path: Path) -> None:
        """Write the file; the same results give the same bytes."""
        arrays: dict[str, Any] = {
            "images": np.array(list(self.images), dtype=np.str_),
            **{_FIGURES + name: np.float64(value) for name, value in self.figures.items()},
            **{_DRAWS + name: values for name, values in self.draws.items()},
            **self.results,
        }
        with writing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def read(cls, path: Path) -> "PerImage":
        """Read what `write` wrote.

        Raises:
            InputError: if it is missing or not such a file.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            images = tuple(arrays.pop("images").tolist())
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{path}: not a file of results by image ({error}); run its stage again"
            ) from error
        groups: dict[str, dict[str, Any]] = {_FIGURES: {}, _DRAWS: {}, "": {}}
        for name, values in arrays.items():
            prefix = next(prefix for prefix in groups if name.startswith(prefix))
            groups[prefix][name.removeprefix(prefix)] = values
        figures = {name: float(value) for name, value in groups[_FIGURES].items()}
        return cls(images, figures, groups[_DRAWS], groups[""])
