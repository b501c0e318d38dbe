"""The benchmarks' figures, each one record, beside those of other backbones and the published ones."""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from components import params
from components.benchmarks.shared.per_image import FILE, PerImage
from components.core import paths
from components.core.errors import InputError
from components.core.published import (
    BENCHMARKS,
    Benchmark,
    Setup,
    imagenet_figure,
    paper_figure,
    published_model,
)
from components.params import PRETRAINED
from components.report.files import figure_at, read_metrics

PAIR = (PRETRAINED, "random")  # pretraining is worth their difference
MARK = "*"  # of a published figure that this run's may be held against
NOISE_MARK = "≈"  # of a difference that may be none
OTHER_PROTOCOL_MARK = "†"  # of a figure that was measured otherwise than this run's backbone
OTHER_PROTOCOL = "measured by another version of the protocol, or with other settings"
# Where data lie, what is kept and how often something is said: no result depends on these.
NO_PROTOCOL = frozenset(
    (
        "seed", "published", "folders", "own_data", "mirrors", "connections", "drawn_world", "accumulate",
        "checkpoint_every", "keep_checkpoints", "keep_candidates", "log_every", "validate_every",
        "measure_candidates", "gallery_images", "sources", "backbones", "detection_backbones",
        "detection_memory_heavy", "more_learning_rates", "which",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of the report, or why it is absent. `components.report.render` writes it, in each format.

    Attributes:
        value: None where absent.
        unit: "percent", or "points" for a difference of percentages: how it is written.
        low: end of its 95 % interval; None where there is none.
        high: the other end.
        mark: stands after the number.
        remark: why it is absent ("not run", with the reason if there is one, or what is wrong with its
            file); of a number that is there, what one has to know about it.
    """

    value: float | None = None
    unit: str = "percent"
    low: float | None = None
    high: float | None = None
    mark: str = ""
    remark: str = ""

    @property
    def is_noise(self) -> bool:
        """Return whether it is a difference whose interval holds zero."""
        return self.unit == "points" and self.low is not None and self.mark == NOISE_MARK

    def minus(self, other: "Figure | None") -> "Figure":
        """Return the difference, in percentage points; absent without both."""
        if other is None or self.value is None or other.value is None:
            return Figure(unit="points")
        return Figure(self.value - other.value, "points")


@dataclass(frozen=True, slots=True)
class Result:
    """One row of a table.

    Attributes:
        benchmark: which.
        figures: by backbone, of all whose figures params.yaml asks for.
        differences: this run's backbone less each of the others, by their names.
        chance: what guessing reaches.
        published: the paper's.
        published_model: name of the model whose figure ``published`` is, which may be another one.
        published_difference: this run's less the paper's.
        imagenet: the published one of the ImageNet-supervised backbone.
        imagenet_difference: this run's less that one.
        num_classes: of the data it was measured on; None where nothing says so.
        protocol: by which this run's backbone was measured, as its metrics.json has it; empty where nothing
            says so.
        protocols: in short, by backbone of those with a figure: what may stand in one column.
    """

    benchmark: Benchmark
    figures: dict[str, Figure]
    differences: dict[str, Figure]
    chance: Figure
    published: Figure
    published_model: str | None
    published_difference: Figure
    imagenet: Figure
    imagenet_difference: Figure
    num_classes: int | None = None
    protocol: Mapping[str, Any] = field(default_factory=dict)
    protocols: dict[str, str] = field(default_factory=dict)

    def value(self, backbone: str) -> float | None:
        """Return the figure of a backbone in percent, None where absent."""
        return self.figures[backbone].value if backbone in self.figures else None

    @property
    def gain(self) -> float | None:
        """Return this run's less the random backbone's, in percentage points."""
        return self.differences[PAIR[1]].value if PAIR[1] in self.differences else None

    def as_json(self, order: int, title: str, not_the_papers: Sequence[str]) -> dict[str, Any]:
        """Return the row of report.json.

        Args:
            order: of the row.
            title: of the benchmark with what its data are.
            not_the_papers: what makes the figure another one than the paper's.
        """
        comparable = self.published_difference.value is not None and not not_the_papers
        remark = (
            ""
            if comparable or self.published.value is None
            else "not comparable: " + "; ".join(not_the_papers)
        )
        marked = replace(self, published=replace(self.published, mark=MARK * comparable, remark=remark))
        benchmark = self.benchmark
        return asdict(marked) | {
            "order": order,
            "benchmark": benchmark.name,
            "title": title,
            "row_title": benchmark.row_title,
            "group": benchmark.group,
            "metric": benchmark.metric,
            "metric_title": benchmark.metric_title,
            "headline": benchmark.is_headline,
            "comparable": comparable,
            "not_the_papers": list(not_the_papers),
        }


def read_results(
    setup: Setup, asked: params.Benchmarks, not_run: Mapping[str, str] = MappingProxyType({})
) -> list[Result]:
    """Read what the benchmarks wrote; a row each, in the order of the report.

    Args:
        setup: of this run.
        asked: whose results are asked for.
        not_run: why benchmarks are not run, by name; ``virtex run`` starts no process for them.
    """
    return [_result(benchmark, setup, asked, not_run.get(benchmark.name)) for benchmark in BENCHMARKS]


def _result(benchmark: Benchmark, setup: Setup, asked: params.Benchmarks, not_run: str | None) -> Result:
    figures: dict[str, Figure] = {}
    protocols: dict[str, Mapping[str, Any]] = {}
    num_classes, chance = None, Figure()
    for backbone in _measured(benchmark, asked):
        folder = paths.stage_dir(benchmark.name, backbone if benchmark.compares_backbones else None)
        unreadable: list[str] = []
        metrics = read_metrics(folder, unreadable)
        value = figure_at(metrics, benchmark.metric)
        if value is not None:
            figures[backbone] = _bounded(value, metrics, benchmark.metric)
            protocols[backbone] = _protocol(metrics)
            chance = Figure(figure_at(metrics.get("chance"), benchmark.metric))
            num_classes = metrics.get("num_classes", num_classes)
        elif not (folder / "metrics.json").exists():
            figures[backbone] = Figure(remark=f"not run: {not_run}" if not_run else "not run")
        elif reason := _reason_not_run(metrics, benchmark.metric):
            figures[backbone] = Figure(remark=f"not run: {reason}")
        else:
            fault = f"{folder / 'metrics.json'} has no {benchmark.metric}"
            figures[backbone] = Figure(remark=unreadable[0] if unreadable else fault)
    if benchmark.is_detection and not asked.detection_backbones:
        figures[PRETRAINED] = Figure(remark="not run: benchmarks.detection_backbones names no backbone")
    short = {name: _in_short(protocol) for name, protocol in protocols.items()}
    figures = _marked(figures, short)
    model = published_model(setup)
    paper, paper_model = paper_figure(model, benchmark.key) or (None, None)
    ours, published = figures.get(PRETRAINED, Figure()), Figure(paper)
    imagenet = Figure(imagenet_figure(model, benchmark.key))
    return Result(
        benchmark,
        figures,
        {name: _difference(benchmark, name, ours, of) for name, of in figures.items() if name != PRETRAINED},
        chance,
        published,
        paper_model.name if paper_model else None,
        ours.minus(published),
        imagenet,
        ours.minus(imagenet),
        num_classes,
        protocols.get(PRETRAINED, {}),
        short,
    )


def _bounded(value: float, metrics: Mapping[str, Any], metric: str) -> Figure:
    """Return a figure with the ends of its interval, where metrics.json has them."""
    intervals = metrics.get("intervals")
    bounds = intervals.get(metric) if isinstance(intervals, Mapping) else None
    low, high = (figure_at(bounds, end) for end in ("low", "high"))
    return Figure(value) if low is None or high is None else Figure(value, low=low, high=high)


def _protocol(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return name, version and settings; empty where results are older than these."""
    protocol = metrics.get("protocol")
    return protocol if isinstance(protocol, Mapping) else {}


def _in_short(protocol: Mapping[str, Any]) -> str:
    """Return name, version and a digest of those settings that decide; empty of none."""
    if not protocol:
        return ""
    settings = protocol.get("settings")
    settings = settings if isinstance(settings, Mapping) else {}
    deciding = {key: value for key, value in settings.items() if key not in NO_PROTOCOL}
    digest = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:8]
    return f"{protocol.get('name')}, version {protocol.get('version')}, settings {digest}"


def _marked(figures: dict[str, Figure], protocols: Mapping[str, str]) -> dict[str, Figure]:
    """Mark what was measured by another protocol, version or settings of it, than this run's backbone."""
    ours = protocols.get(PRETRAINED)
    return {
        name: replace(of, mark=OTHER_PROTOCOL_MARK, remark=OTHER_PROTOCOL)
        if ours is not None and name in protocols and protocols[name] != ours
        else of
        for name, of in figures.items()
    }


def _difference(benchmark: Benchmark, backbone: str, ours: Figure, other: Figure) -> Figure:
    """Return the difference to a backbone, with the interval of pairs where both saw the same images.

    There is none where the two were measured by different versions of the protocol.
    """
    if other.mark == OTHER_PROTOCOL_MARK:
        return Figure(unit="points", remark=OTHER_PROTOCOL)
    plain = ours.minus(other)
    if plain.value is None or ours.low is None or other.low is None:
        return plain
    pair = [_by_image(paths.stage_dir(benchmark.name, name) / FILE) for name in (PRETRAINED, backbone)]
    found = pair[0].difference(pair[1], benchmark.metric) if pair[0] and pair[1] else None
    if found is None:
        return replace(plain, remark="no interval: not the same test images, or their results are missing")
    low, high = found[1].low, found[1].high
    if not found[1].holds_zero:
        return replace(plain, low=low, high=high)
    return replace(plain, low=low, high=high, mark=NOISE_MARK, remark="no difference: within noise")


def _by_image(path: Path) -> PerImage | None:
    try:
        return _read(path.resolve(), path.stat().st_mtime_ns)
    except (InputError, OSError):
        return None


@functools.lru_cache(maxsize=4)  # several rows of the report are of one benchmark
def _read(path: Path, _changed: int) -> PerImage:
    return PerImage.read(path)


def _measured(benchmark: Benchmark, asked: params.Benchmarks) -> Sequence[str]:
    """Return the backbones that params.yaml wants the benchmark's figures of."""
    if not benchmark.compares_backbones:
        return (PRETRAINED,)
    return asked.detection_backbones if benchmark.is_detection else asked.backbones


def _reason_not_run(metrics: Mapping[str, Any], metric: str) -> str | None:
    """Say why the whole benchmark, or one metric of it, was left out; None if nothing says so."""
    reasons = metrics.get("not_run")
    return reasons.get(metric) if isinstance(reasons, Mapping) else reasons
