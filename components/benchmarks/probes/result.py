"""Record of probes: figures, chance levels, and results by image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components import params
from components.benchmarks.shared.files import Run
from components.benchmarks.shared.intervals import Array, Counts, Statistic, mean_statistic
from components.benchmarks.shared.per_image import FILE, PerImage
from components.benchmarks.shared.protocols import beside_figures
from components.benchmarks.shared.resampled_precision import mean_step_precision, prevalence


@dataclass(frozen=True, slots=True)
class Probed:
    """Figures of a probe on some images.

    Attributes:
        by_image: the figures, in percent, by ``probe.figure``.
        chance: what guessing reaches.
    """

    by_image: PerImage
    chance: Mapping[str, float]


def record(
    run: Run,
    title: str,
    probed: Sequence[Probed],
    benchmark: str,
    settings: params.Probes,
    expected: Sequence[str],
    reason: str,
) -> None:
    """Write the figures of all probes, and what stands beside them.

    Args:
        run: where they go.
        title: for people.
        probed: of each probe and dataset.
        benchmark: key of `components.benchmarks.shared.protocols.PROTOCOLS`.
        settings: the section of params.yaml.
        expected: names of all figures that the benchmark may have.
        reason: why there are no figures, if there are none.
    """
    by_image = PerImage.joined([part.by_image for part in probed])
    by_image.write(run.output_dir / FILE)
    run.artifact(run.output_dir / FILE)
    if not probed:
        run.metrics({"not_run": reason})
        print(f"{title}: not run: {reason}", flush=True)
        return
    groups: dict[str, Any] = {}
    for name, value in by_image.figures.items():
        probe, _, figure = name.partition(".")
        groups.setdefault(probe, {})[figure] = value
    missing = {metric: _why(metric, settings.which) for metric in expected if metric not in by_image.figures}
    chance = {name: value for part in probed for name, value in part.chance.items()}
    beside = beside_figures(benchmark, settings, by_image, chance)
    run.metrics({**groups, **beside, **({"not_run": missing} if missing else {})})
    for probe, figures in groups.items():
        found = ", ".join(f"{name} {value:.1f}" for name, value in figures.items())
        print(f"{title}: {probe} {found} (percent)", flush=True)


def _why(metric: str, which: Sequence[str]) -> str:
    """Say why a figure is missing where others are not."""
    probe = metric.partition(".")[0]
    if probe not in which:
        return f"`probes.which` does not name {probe}"
    dataset = next((name for name in ("imagenet", "voc2012") if name in metric), "voc2007")
    return f"this run has no {data_of(dataset)}"


def data_of(dataset: str) -> str:
    """Return the words for what probes want of a dataset."""
    return f"`{dataset}` data" + " with masks (SegmentationClass)" * (dataset == "voc2012")


def ranked_classes(
    images: Sequence[str], labels: NDArray[np.int8], scores: Mapping[str, NDArray[np.floating[Any]]]
) -> Probed:
    """Return the mAP of each of several rankings, as VOC07 counts it, by name.

    Args:
        images: names of the test images.
        labels: ``(num_images, num_classes)`` of 1 (present), -1 (absent) and 0 (left out).
        scores: ``(num_images, num_classes)`` by name.
    """
    statistics = {name: mean_step_precision(labels, own) for name, own in scores.items()}

    def all_of_them(counts: Counts) -> dict[str, Array]:
        return {name: statistic(counts)["mAP"] for name, statistic in statistics.items()}

    return measured(images, all_of_them, dict.fromkeys(scores, prevalence(labels)), scores)


def means(images: Sequence[str], values: Mapping[str, NDArray[Any]], chance: Mapping[str, float]) -> Probed:
    """Return the means of ``values``, ``(num_images,)`` in percent by name."""
    return measured(images, mean_statistic(values), chance, values)


def measured(
    images: Sequence[str],
    statistic: Statistic,
    chance: Mapping[str, float],
    results: Mapping[str, NDArray[Any]],
) -> Probed:
    """Return the figures that a statistic has on all images, each once, with their resamples."""
    each_once = statistic(np.ones((len(images), 1), np.float32))
    figures = {name: float(values[0]) for name, values in each_once.items()}
    return Probed(PerImage.measured(images, figures, statistic, results), chance)
