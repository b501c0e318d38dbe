"""What the report says, gathered from the stages' own files; what is missing is said, not fatal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from components import params
from components.core import paths
from components.core.published import (
    BENCHMARKS,
    TRANSFORMER_OBJECTIVES,
    Benchmark,
    PublishedModel,
    Setup,
    imagenet_figure,
    paper_figure,
    published_model,
)
from components.dataset_titles import layout_note, read_titles
from components.params import PRETRAINED
from components.report.files import figure_at, read_metrics, read_rows

SETUP_SECTIONS = ("download", "backbone", "textual_head", "objective", "subset", "schedule", "pretrain")
PAIR = (PRETRAINED, "random")  # pretraining is worth their difference


@dataclass(frozen=True, slots=True)
class Result:
    """One benchmark's figures in percent.

    Attributes:
        benchmark: which.
        figures: by backbone; without those that have no result.
        published: the paper's, or None.
        imagenet: the published one of the ImageNet-supervised backbone, or None.
        problems: why a figure is absent, by backbone: "not run", with the reason if there is one, or
            what is wrong with its file.
        published_model: name of the model whose figure ``published`` is, which may be another one.
        num_classes: of the data it was measured on; None where nothing says so.
    """

    benchmark: Benchmark
    figures: dict[str, float]
    published: float | None
    imagenet: float | None
    problems: dict[str, str]
    published_model: str | None = None
    num_classes: int | None = None

    @property
    def difference(self) -> float | None:
        """Return pretrained minus random, in percentage points; None without both."""
        if self.benchmark.compares_backbones and self.figures.keys() >= set(PAIR):
            return self.figures[PAIR[0]] - self.figures[PAIR[1]]
        return None

    @property
    def published_difference(self) -> float | None:
        """Return this run's figure minus the paper's, in percentage points; None without both."""
        return self._above(self.published)

    @property
    def imagenet_difference(self) -> float | None:
        """Return this run's figure minus the published ImageNet-supervised one; None without both."""
        return self._above(self.imagenet)

    def _above(self, other: float | None) -> float | None:
        ours = self.figures.get(PRETRAINED)
        return None if ours is None or other is None else ours - other


@dataclass(frozen=True, slots=True)
class Curve:
    """Loss by iteration."""

    iterations: list[float]
    losses: list[float]


@dataclass(frozen=True, slots=True)
class ReportData:
    """All that the table and the picture show.

    Attributes:
        setup: of this run.
        published: the model of the paper that the figures are held against.
        backbones: names of those compared, in the order of the report.
        results: one per benchmark, in the order of the report.
        pretraining: metrics.json of pretraining, empty when there is none.
        choice: metrics.json of checkpoint selection, empty when there is none.
        captioning: metrics.json of captioning, empty when there is none.
        train_loss: of pretraining.
        val_loss: of pretraining.
        class_aps: VOC07 AP in percent by backbone and class.
        missing: what ought to be there and is not or cannot be read, for people.
        manifest: of the datasets, for their titles; empty where there is none.
    """

    setup: Setup
    published: PublishedModel
    backbones: tuple[str, ...]
    results: list[Result]
    pretraining: dict[str, Any] = field(default_factory=dict)
    choice: dict[str, Any] = field(default_factory=dict)
    captioning: dict[str, Any] = field(default_factory=dict)
    train_loss: Curve | None = None
    val_loss: Curve | None = None
    class_aps: dict[str, dict[str, float]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    manifest: Mapping[str, Any] = field(default_factory=dict)

    def title(self, benchmark: Benchmark) -> str:
        """Return a benchmark's title, with what its data are where its name says something else."""
        return benchmark.title + layout_note(benchmark.name, self.manifest)

    def result(self, key: str) -> Result:
        """Return the result of one benchmark by its key, such as ``voc07.mAP``."""
        return next(result for result in self.results if result.benchmark.key == key)

    def of_group(self, group: str) -> list[Result]:
        """Return the rows of one table, by its key in `GROUPS`.

        Of a benchmark without any figure only headlines and what the paper has a figure of.
        """
        measured = {result.benchmark.name for result in self.results if result.figures}
        return [
            result
            for result in self.results
            if result.benchmark.group == group
            and (
                result.benchmark.name in measured
                or result.benchmark.is_headline
                or result.published is not None
            )
        ]

    def headlines(self) -> list[Result]:
        """Return the few results that a picture has room for."""
        return [result for result in self.results if result.benchmark.is_headline]

    def compared(self) -> list[tuple[str, Any, Any]]:
        """Return the set-up beside the published model's: (name, this run's, the paper's)."""
        head = () if self.setup.objective in TRANSFORMER_OBJECTIVES else ("hidden_size", "num_layers")
        names = [name for name in Setup.__dataclass_fields__ if name not in head]
        return [(name, getattr(self.setup, name), getattr(self.published.setup, name)) for name in names]

    def differences(self) -> list[str]:
        """Name what differs."""
        return [name for name, ours, theirs in self.compared() if ours != theirs]


def configured_setup(
    download: params.Download,
    backbone: params.Backbone,
    textual_head: params.TextualHead,
    objective: params.Objective,
    subset: params.Subset,
    schedule: params.Schedule,
    pretrain: params.Pretrain,
) -> Setup:
    """Return the set-up without its numbers of images, which the results know."""
    return Setup(
        captions=_captions(download),
        captioned_images=None,
        captions_per_image="all" if subset.captions_per_image is None else subset.captions_per_image,
        backbone=backbone.name,
        objective=objective.name,
        hidden_size=textual_head.hidden_size,
        num_layers=textual_head.num_layers,
        iterations=schedule.iterations,
        batch_size=pretrain.batch_size,
        voc07_test_images=None,
    )


def gather(
    setup: Setup, benchmarks: params.Benchmarks, not_run: Mapping[str, str] = MappingProxyType({})
) -> ReportData:
    """Read the results that are there.

    Args:
        setup: what params.yaml knows of this run; the numbers of images in it are taken from the results.
        benchmarks: whose results are asked for.
        not_run: why benchmarks are not run, by name; ``virtex run`` starts no process for them.
    """
    missing: list[str] = []
    of_voc07 = [] if "voc07" in not_run else missing
    backbones = benchmarks.backbones
    pretraining = read_metrics(paths.stage_dir("pretrain"), missing)
    captioning = read_metrics(paths.stage_dir("caption"), missing)
    voc07 = read_metrics(paths.stage_dir("voc07", backbones[0]), of_voc07)
    setup = replace(
        setup, captioned_images=pretraining.get("images"), voc07_test_images=voc07.get("num_test")
    )
    published = published_model(setup)
    return ReportData(
        setup=setup,
        published=published,
        backbones=tuple(dict.fromkeys((*backbones, *benchmarks.detection_backbones))),
        results=[
            _result(benchmark, published, benchmarks, not_run.get(benchmark.name)) for benchmark in BENCHMARKS
        ],
        pretraining=pretraining,
        choice=read_metrics(paths.stage_dir("select"), missing),
        captioning=captioning,
        train_loss=_read_curve(paths.stage_dir("pretrain") / "train.csv", missing),
        val_loss=_read_curve(paths.stage_dir("pretrain") / "val.csv", missing),
        class_aps={name: _read_class_aps(paths.stage_dir("voc07", name), of_voc07) for name in backbones},
        missing=missing,
        manifest=read_titles(),
    )


def _result(
    benchmark: Benchmark, published: PublishedModel, asked: params.Benchmarks, not_run: str | None
) -> Result:
    figures: dict[str, float] = {}
    problems: dict[str, str] = {}
    num_classes = None
    for backbone in _measured(benchmark, asked):
        folder = paths.stage_dir(benchmark.name, backbone if benchmark.compares_backbones else None)
        unreadable: list[str] = []
        metrics = read_metrics(folder, unreadable)
        value = figure_at(metrics, benchmark.metric)
        if value is not None:
            figures[backbone] = value
            num_classes = metrics.get("num_classes", num_classes)
        elif not (folder / "metrics.json").exists():
            problems[backbone] = f"not run: {not_run}" if not_run else "not run"
        elif reason := _reason_not_run(metrics, benchmark.metric):
            problems[backbone] = f"not run: {reason}"
        else:
            problems[backbone] = (
                unreadable[0] if unreadable else f"{folder / 'metrics.json'} has no {benchmark.metric}"
            )
    if benchmark.is_detection and not asked.detection_backbones:
        problems[PRETRAINED] = "not run: benchmarks.detection_backbones names no backbone"
    figure, model = paper_figure(published, benchmark.key) or (None, None)
    return Result(
        benchmark,
        figures,
        figure,
        imagenet_figure(published, benchmark.key),
        problems,
        model.name if model else None,
        num_classes,
    )


def _measured(benchmark: Benchmark, asked: params.Benchmarks) -> Sequence[str]:
    """Return the backbones that params.yaml wants the benchmark's figures of."""
    if not benchmark.compares_backbones:
        return (PRETRAINED,)
    return asked.detection_backbones if benchmark.is_detection else asked.backbones


def _reason_not_run(metrics: Mapping[str, Any], metric: str) -> str | None:
    """Say why the whole benchmark, or one metric of it, was left out; None if nothing says so."""
    reasons = metrics.get("not_run")
    return reasons.get(metric) if isinstance(reasons, Mapping) else reasons


def _read_curve(path: Path, missing: list[str]) -> Curve | None:
    rows = read_rows(path, missing, "iteration", "loss")
    if not rows:
        return None
    return Curve([row["iteration"] for row in rows], [row["loss"] for row in rows])


def _read_class_aps(folder: Path, missing: list[str]) -> dict[str, float]:
    rows = read_rows(folder / "ap.csv", missing, "ap", labels=("class",))
    return {row["class"]: row["ap"] for row in rows if "ap" in row}


def _captions(download: params.Download) -> str:
    """Name the datasets that were pretrained on; ``coco`` alone is taken for COCO Captions."""
    if download.source == "drawn_world":
        return "drawn world"
    names = download.captioned_datasets
    return "COCO Captions" if names == ["coco"] else " + ".join(names)
