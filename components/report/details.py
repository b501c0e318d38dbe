"""Contents of the page beyond the tables: curves, classes, confusions, captions beside their images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from components.core import paths
from components.core.errors import InputError
from components.core.published import BENCHMARKS, STAGE_BENCHMARKS
from components.data.image import DecodeError, decode
from components.data.store import CaptionStore
from components.params import PRETRAINED
from components.report.files import read_json, read_metrics, read_rows
from components.report.html import choose_examples, data_uri

SHOWN_CLASSES = 40  # of a benchmark with more, half of them the best and half the worst
NUM_CAPTIONS = 12
CAPTION_PIXELS, DETECTION_PIXELS = 320, 1280  # longer sides
RECALLS = np.linspace(0.0, 1.0, 51)
FREQUENCIES = ("many", "medium", "few")
TITLES = {benchmark.name: benchmark.title for benchmark in BENCHMARKS}
CLASS_FIGURES = {  # stage: file, column, its title
    "voc07": ("ap.csv", "ap", "AP"),
    "imagenet_linear": ("classes.csv", "top1", "top-1"),
    "coco_segmentation": ("ap.csv", "mask", "mask AP"),
    "lvis_segmentation": ("ap.csv", "mask", "mask AP"),
    "voc_detection": ("ap.csv", "box", "AP50"),
    "inaturalist": ("classes.csv", "top1", "top-1"),
}
CLASSIFICATIONS, DETECTIONS = STAGE_BENCHMARKS["classification"], STAGE_BENCHMARKS["detection"]
# What is said of a training, the file, its columns along and across.
ACCURACY = ("validation top-1", "val.csv", "epoch", "top1")
LOSS = ("training loss", "losses.csv", "iteration", "loss")

Found = TypeVar("Found")
Line = tuple[list[float], list[float]]


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """A benchmark's figures by class, in percent.

    Attributes:
        title: for people.
        num_classes: with a figure, of which ``names`` may be a part.
        names: best first.
        figures: by backbone and class.
    """

    title: str
    num_classes: int
    names: list[str]
    figures: dict[str, dict[str, float]]


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
        losses: of pretraining by iteration: training, validation.
        rates: learning rates of pretraining by part of the model.
        candidates: rows of the checkpoints that were to choose from: iteration, score, chosen.
        precision: of VOC07 at `RECALLS`, interpolated, mean over classes, by backbone.
        classes: figures by class, by benchmark.
        frequency: iNaturalist by how many training images a class has, by backbone.
        trainings: by title what is along the horizontal axis, and curves by backbone.
        confusions: of classification.
        datasets: metrics.json of the datasets.
        captions: entries of captions.json, best, typical and worst in turn, each with its ``group``.
        pictures: data URIs of their images, by image id; without those that cannot be had.
        detections: data URIs of detections drawn on test images, by title.
    """

    losses: dict[str, Line]
    rates: dict[str, Line]
    candidates: list[dict[str, Any]]
    precision: dict[str, list[float]]
    classes: dict[str, ClassFigures]
    frequency: dict[str, dict[str, Any]]
    trainings: dict[str, tuple[str, dict[str, Line]]]
    confusions: list[Confusion]
    datasets: dict[str, Any]
    captions: list[dict[str, Any]]
    pictures: dict[str, str]
    detections: dict[str, str]


def gather_details(backbones: Sequence[str], caption_dataset: str | None, missing: list[str]) -> Details:
    """Read what there is.

    Args:
        backbones: in the order of the report.
        caption_dataset: that whose images were captioned, None for any.
        missing: grows by what ought to be there and is not, and by what cannot be read, for people.
    """
    notes: list[str] = []
    pretrain, select = paths.stage_dir("pretrain"), paths.stage_dir("select")
    losses = {
        title: _line(read_rows(pretrain / name, missing, "iteration", "loss"), "iteration", "loss")
        for title, name in (("training", "train.csv"), ("validation", "val.csv"))
    }
    captions = _captions(notes)
    trainings = [_training(stage, backbones, notes) for stage in (*CLASSIFICATIONS, *DETECTIONS)]
    details = Details(
        losses={title: line for title, line in losses.items() if line},
        rates=_rates(pretrain / "train.csv", notes),
        candidates=read_rows(select / "checkpoints.csv", notes, "iteration", "score", labels=("chosen",)),
        precision=_by_backbone("voc07", backbones, lambda folder: _mean_precision(folder, notes)),
        classes={s: found for s in CLASS_FIGURES if (found := _class_figures(s, backbones, notes))},
        frequency=_by_backbone("inaturalist", backbones, lambda folder: _frequency(folder, notes)),
        trainings={title: found for title, found in trainings if found[1]},
        confusions=[of for s in CLASSIFICATIONS if (of := _confusion(s, backbones[0], notes))],
        datasets=read_metrics(paths.stage_dir("datasets"), notes),
        captions=captions,
        pictures=_pictures({caption["image_id"] for caption in captions}, caption_dataset, notes),
        detections={TITLES[s]: uri for s in DETECTIONS if (uri := _detections(s, notes))},
    )
    missing += [
        note for note in dict.fromkeys(notes) if not note.endswith(" is missing") and note not in missing
    ]
    return details


def _by_backbone(
    stage: str, backbones: Sequence[str], read: Callable[[Path], Found | None]
) -> dict[str, Found]:
    found = {name: read(paths.stage_dir(stage, name)) for name in backbones}
    return {name: value for name, value in found.items() if value}


def _line(rows: Sequence[Mapping[str, float]], x: str, y: str) -> Line | None:
    kept = [row for row in rows if x in row and y in row]
    return ([row[x] for row in kept], [row[y] for row in kept]) if kept else None


def _rates(path: Path, notes: list[str]) -> dict[str, Line]:
    if not path.is_file() or "_lr" not in path.read_text(encoding="utf-8").partition("\n")[0]:
        return {}
    rows = read_rows(path, notes, "iteration", "backbone_lr", "head_lr")
    lines = {part: _line(rows, "iteration", f"{part}_lr") for part in ("backbone", "head")}
    return {part: line for part, line in lines.items() if line}


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


def read_classes(stage: str, backbones: Sequence[str], notes: list[str]) -> dict[str, dict[str, float]]:
    """Return a benchmark's figures by backbone and class, in percent."""
    name, column, _ = CLASS_FIGURES[stage]

    def read(folder: Path) -> dict[str, float]:
        rows = read_rows(folder / name, notes, column, labels=("class",))
        return {row["class"]: row[column] for row in rows if column in row}

    return _by_backbone(stage, backbones, read)


def _class_figures(stage: str, backbones: Sequence[str], notes: list[str]) -> ClassFigures | None:
    figures = read_classes(stage, backbones, notes)
    if not figures:
        return None
    first = next(iter(figures.values()))
    known = {name for of in figures.values() for name in of}
    ordered = sorted(known, key=lambda name: (-first.get(name, 0.0), name))
    half = SHOWN_CLASSES // 2
    names = ordered if len(ordered) <= SHOWN_CLASSES else [*ordered[:half], *ordered[-half:]]
    shown = {backbone: {name: of[name] for name in names if name in of} for backbone, of in figures.items()}
    return ClassFigures(f"{TITLES[stage]}, {CLASS_FIGURES[stage][2]}", len(ordered), names, shown)


def _frequency(folder: Path, notes: list[str]) -> dict[str, Any]:
    groups = read_metrics(folder, notes).get("by_frequency")
    if not isinstance(groups, dict):
        return {}
    return {name: groups[name] for name in FREQUENCIES if isinstance(groups.get(name), dict)}


def _training(
    stage: str, backbones: Sequence[str], notes: list[str]
) -> tuple[str, tuple[str, dict[str, Line]]]:
    what, name, x, y = ACCURACY if stage in CLASSIFICATIONS else LOSS

    def read(folder: Path) -> Line | None:
        rows = read_rows(folder / name, notes, x, y)
        rows = _of_first_rate(folder / name, rows, notes) if stage == "imagenet_linear" else rows
        return _line(rows, x, y)

    return f"{TITLES[stage]}: {what}", (x, _by_backbone(stage, backbones, read))


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
    return Confusion(TITLES[stage], actual, predicted, counts)


def _captions(notes: list[str]) -> list[dict[str, Any]]:
    path = paths.stage_dir("caption") / "captions.json"
    entries = read_json(path, notes) or []
    try:
        ranking = choose_examples([float(entry["cider"]) for entry in entries], NUM_CAPTIONS)
        return [
            {
                "group": group,
                "image_id": str(entries[index]["image_id"]),
                "caption": str(entries[index]["caption"]),
                "cider": float(entries[index]["cider"]),
                "log_probability": float(entries[index]["log_probability"]),
                "references": [str(text) for text in entries[index]["references"]],
            }
            for group in ("best", "typical", "worst")
            for index in getattr(ranking, group)
        ]
    except (KeyError, TypeError, ValueError) as error:
        notes.append(f"{path} cannot be read: {type(error).__name__} {error}")
        return []


def _pictures(wanted: set[str], dataset: str | None, notes: list[str]) -> dict[str, str]:
    path = paths.lmdb_path("val")
    found: dict[str, str] = {}
    try:
        for record in CaptionStore(path) if wanted and path.exists() else ():
            if record.image_id in wanted and dataset in (record.dataset, None):
                found[record.image_id] = data_uri(decode(record.image), CAPTION_PIXELS)
            if len(found) == len(wanted):
                break
    except (InputError, DecodeError) as error:
        notes.append(f"{path} cannot be read: {error}")
    return found


def _detections(stage: str, notes: list[str]) -> str | None:
    path = paths.stage_dir(stage, PRETRAINED) / "detections.png"
    try:
        return data_uri(decode(path.read_bytes()), DETECTION_PIXELS)
    except FileNotFoundError:
        return None
    except (OSError, DecodeError) as error:
        notes.append(f"{path} cannot be read: {error}")
        return None
