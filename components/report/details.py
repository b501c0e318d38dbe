"""What the page shows beyond the tables: curves, classes, confusions, from the benchmarks' own files."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from components.core import paths
from components.report.files import read_metrics, read_rows

SHOWN_CLASSES = 40  # of a benchmark with more, half of them the best and half the worst
RECALLS = np.linspace(0.0, 1.0, 51)
FREQUENCIES = ("many", "medium", "few")
CLASS_FIGURES = {  # stage: title, file, column
    "voc07": ("VOC07 linear SVMs, AP", "ap.csv", "ap"),
    "imagenet_linear": ("ImageNet linear, top-1", "classes.csv", "top1"),
    "coco_segmentation": ("COCO segmentation, mask AP", "ap.csv", "mask"),
    "lvis_segmentation": ("LVIS segmentation, mask AP", "ap.csv", "mask"),
    "voc_detection": ("VOC detection, AP50", "ap.csv", "box"),
    "inaturalist": ("iNaturalist 2018, top-1", "classes.csv", "top1"),
}
TRAININGS = {  # stage: title, file, columns
    "imagenet_linear": ("ImageNet linear: validation top-1", "val.csv", "epoch", "top1"),
    "inaturalist": ("iNaturalist 2018: validation top-1", "val.csv", "epoch", "top1"),
    "coco_segmentation": ("COCO segmentation: training loss", "losses.csv", "iteration", "loss"),
    "lvis_segmentation": ("LVIS segmentation: training loss", "losses.csv", "iteration", "loss"),
    "voc_detection": ("VOC detection: training loss", "losses.csv", "iteration", "loss"),
}
CONFUSIONS = {"imagenet_linear": "ImageNet linear", "inaturalist": "iNaturalist 2018"}

Line = tuple[list[float], list[float]]


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """A benchmark's figures by class, in percent.

    Attributes:
        stage: of the benchmark.
        title: for people.
        num_classes: with a figure, of which ``names`` may be a part.
        names: best first.
        figures: by backbone and class.
    """

    stage: str
    title: str
    num_classes: int
    names: list[str]
    figures: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Training:
    """A curve per backbone of one benchmark."""

    title: str
    unit: str
    lines: dict[str, Line]


@dataclass(frozen=True, slots=True)
class Confusion:
    """Images by actual and predicted class ``(num_classes, num_predicted)``, of this run's backbone."""

    title: str
    actual: list[str]
    predicted: list[str]
    counts: np.ndarray


@dataclass(frozen=True, slots=True)
class Details:
    """All of it; empty where a benchmark was not run.

    Attributes:
        rates: learning rates of pretraining by part of the model.
        candidates: rows of the checkpoints that were to choose from: iteration, score, chosen.
        precision: of VOC07 at `RECALLS`, interpolated, mean over classes, by backbone.
        classes: figures by class, one per benchmark.
        frequency: iNaturalist by how many training images a class has, by backbone.
        trainings: curves of the benchmarks.
        confusions: of classification.
        datasets: metrics.json of the datasets.
        broken: files that are there and cannot be read, for people.
    """

    rates: dict[str, Line] = field(default_factory=dict)
    candidates: list[dict[str, Any]] = field(default_factory=list)
    precision: dict[str, list[float]] = field(default_factory=dict)
    classes: list[ClassFigures] = field(default_factory=list)
    frequency: dict[str, dict[str, Any]] = field(default_factory=dict)
    trainings: list[Training] = field(default_factory=list)
    confusions: list[Confusion] = field(default_factory=list)
    datasets: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


def gather_details(backbones: Sequence[str]) -> Details:
    """Read what there is."""
    notes: list[str] = []
    classes = [_class_figures(stage, backbones, notes) for stage in CLASS_FIGURES]
    trainings = [_training(stage, backbones, notes) for stage in TRAININGS]
    confusions = [_confusion(stage, backbones[0], notes) for stage in CONFUSIONS]
    return Details(
        rates=_rates(notes),
        candidates=read_rows(
            paths.stage_dir("select") / "checkpoints.csv", notes, "iteration", "score", labels=("chosen",)
        ),
        precision=_by_backbone("voc07", backbones, lambda folder: _mean_precision(folder, notes)),
        classes=[found for found in classes if found],
        frequency=_by_backbone("inaturalist", backbones, lambda folder: _frequency(folder, notes)),
        trainings=[found for found in trainings if found.lines],
        confusions=[found for found in confusions if found],
        datasets=read_metrics(paths.stage_dir("datasets"), notes),
        broken=[note for note in dict.fromkeys(notes) if not note.endswith(" is missing")],
    )


def _by_backbone(stage: str, backbones: Sequence[str], read: Any) -> dict[str, Any]:
    found = {name: read(paths.stage_dir(stage, name)) for name in backbones}
    return {name: value for name, value in found.items() if value}


def _rates(notes: list[str]) -> dict[str, Line]:
    path = paths.stage_dir("pretrain") / "train.csv"
    if not path.is_file() or "_lr" not in path.read_text(encoding="utf-8").partition("\n")[0]:
        return {}
    rows = read_rows(path, notes, "iteration", "backbone_lr", "head_lr")
    iterations = [row["iteration"] for row in rows]
    return {part: (iterations, [row[f"{part}_lr"] for row in rows]) for part in ("backbone", "head") if rows}


def _mean_precision(folder: Path, notes: list[str]) -> list[float]:
    """At each of `RECALLS` the best precision at that recall or beyond, mean over classes."""
    rows = read_rows(folder / "precision_recall.csv", notes, "recall", "precision", labels=("class",))
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        curves.setdefault(row["class"], []).append((row["recall"], row["precision"]))
    if not curves:
        return []
    means = np.mean([_interpolated(points) for points in curves.values()], axis=0)
    return [float(value) for value in means]


def _interpolated(points: Sequence[tuple[float, float]]) -> np.ndarray:
    recall, precision = np.array(sorted(points)).T
    best_beyond = np.maximum.accumulate(precision[::-1])[::-1]
    first = np.searchsorted(recall, RECALLS - 1e-9)
    return np.append(best_beyond, 0.0)[first]


def _class_figures(stage: str, backbones: Sequence[str], notes: list[str]) -> ClassFigures | None:
    title, name, column = CLASS_FIGURES[stage]

    def read(folder: Path) -> dict[str, float]:
        rows = read_rows(folder / name, notes, column, labels=("class",))
        return {row["class"]: row[column] for row in rows if column in row}

    figures = _by_backbone(stage, backbones, read)
    if not figures:
        return None
    first = next(iter(figures.values()))
    known = {name for of in figures.values() for name in of}
    ordered = sorted(known, key=lambda name: (-first.get(name, 0.0), name))
    half = SHOWN_CLASSES // 2
    names = ordered if len(ordered) <= SHOWN_CLASSES else [*ordered[:half], *ordered[-half:]]
    shown = {backbone: {name: of[name] for name in names if name in of} for backbone, of in figures.items()}
    return ClassFigures(stage, title, len(ordered), names, shown)


def _frequency(folder: Path, notes: list[str]) -> dict[str, Any]:
    groups = read_metrics(folder, notes).get("by_frequency")
    if not isinstance(groups, dict):
        return {}
    return {name: groups[name] for name in FREQUENCIES if isinstance(groups.get(name), dict)}


def _training(stage: str, backbones: Sequence[str], notes: list[str]) -> Training:
    title, name, x, y = TRAININGS[stage]

    def read(folder: Path) -> Line | None:
        rows = read_rows(folder / name, notes, x, y)
        rows = _of_first_rate(folder / name, rows, notes) if stage == "imagenet_linear" else rows
        kept = [row for row in rows if x in row and y in row]
        return ([row[x] for row in kept], [row[y] for row in kept]) if kept else None

    return Training(title, x, _by_backbone(stage, backbones, read))


def _of_first_rate(path: Path, rows: list[dict[str, Any]], notes: list[str]) -> list[dict[str, Any]]:
    """Keep the rows of the first of several heads trained at once, which has the reported learning rate."""
    rates = [row.get("learning_rate") for row in read_rows(path, notes, "learning_rate")]
    return [row for row, rate in zip(rows, rates, strict=False) if rate == rates[0]]


def _confusion(stage: str, backbone: str, notes: list[str]) -> Confusion | None:
    path = paths.stage_dir(stage, backbone) / "predictions.csv"
    rows = read_rows(path, notes, labels=("actual", "predicted"))
    if not rows:
        return None
    actual = sorted({row["actual"] for row in rows})
    predicted = [*actual, *sorted({row["predicted"] for row in rows} - set(actual))]
    counts = np.zeros((len(actual), len(predicted)), np.int64)
    for row in rows:
        counts[actual.index(row["actual"]), predicted.index(row["predicted"])] += 1
    return Confusion(CONFUSIONS[stage], actual, predicted, counts)
