"""One detection benchmark from a backbone to its figures and files, with either engine."""

import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from components import params
from components.benchmarks.detection import detectron2_engine, torchvision_engine
from components.benchmarks.detection.data import DetectionImage, DetectionSplit
from components.benchmarks.detection.detections import Detections, from_json, to_json
from components.benchmarks.detection.results import (
    draw_detections,
    write_class_aps,
    write_empty_tables,
    write_losses,
)
from components.benchmarks.detection.run_state import Log
from components.benchmarks.detection.task import BackboneWeights, DetectionTask
from components.benchmarks.empty_picture import draw_nothing
from components.core.errors import InputError
from components.training.checkpoints import configuration_key
from components.training.distributed import ALONE, Processes

FILES = ("losses.csv", "ap.csv", "detections.png")
ENGINES = {
    "torchvision": torchvision_engine.fit_and_detect,
    "detectron2": detectron2_engine.fit_and_detect,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one backbone reached.

    Attributes:
        scores: percent, by kind (``box``, ``mask``) and figure.
        losses: by iteration.
        images: the test images, in the order of ``found``.
        found: detections in them.
        seconds: wall-clock time of training and detecting in this process.
    """

    scores: dict[str, Any]
    losses: list[dict[str, float]]
    images: list[DetectionImage]
    found: list[Detections]
    seconds: float

    def figures(self) -> dict[str, Any]:
        """What goes into metrics.json; figures that nothing is known for are left out."""
        scores = {
            kind: {name: value for name, value in group.items() if value is not None and name != "classes"}
            for kind, group in self.scores.items()
        }
        return {
            **scores,
            "train_loss": self.losses[-1]["loss"],
            "images": len(self.images),
            "detections": sum(len(found.scores) for found in self.found),
            "seconds": round(self.seconds, 1),
        }

    def headline(self, task: DetectionTask) -> str:
        """AP, AP50 and AP75 of the kind that the benchmark is known by."""
        group = self.scores[task.headline]
        return ", ".join(
            f"{task.headline} {name} {group[name]:.2f} %" if group[name] is not None else f"{name} unknown"
            for name in ("AP", "AP50", "AP75")
        )


def run_benchmark(
    task: DetectionTask,
    train: DetectionSplit,
    test: DetectionSplit,
    backbone: BackboneWeights,
    settings: params.Detection,
    *,
    scratch_dir: Path,
    device: torch.device,
    num_workers: int,
    processes: Processes = ALONE,
    log: Log,
) -> Outcome | None:
    """Fine-tune from ``backbone``, detect in the test images, score.

    Checkpoints lie below ``scratch_dir`` under a key of the settings, the data and the weights; they go
    once the figures are there. Several processes may call this together; the first one gets the outcome.

    Raises:
        InputError: the sets have different classes, there is nothing to train on, or the engine is missing.
    """
    if train.classes != test.classes:
        raise InputError(f"{task.name}: training and test set name different classes")
    images = chosen_images(test, settings.max_test_images)
    key = _key(task, train, backbone, settings)
    start = time.perf_counter()
    found, losses = ENGINES[settings.engine](
        task,
        train,
        images,
        backbone,
        settings,
        scratch_dir=scratch_dir / key,
        device=device,
        num_workers=num_workers,
        processes=processes,
        log=log,
    )
    parts = processes.gathered_text(to_json(found)) if processes.count > 1 else []
    seconds = time.perf_counter() - start
    if not processes.is_first:
        return None
    if parts:
        by_id = {image.image_id: image for part in parts for image in from_json(part)}
        found = [by_id[image.image_id] for image in images]
    scores = task.scores(test, found)
    shutil.rmtree(scratch_dir / key, ignore_errors=True)
    return Outcome(scores, losses, images, found, seconds)


def write_files(
    outcome: Outcome, test: DetectionSplit, settings: params.Detection, folder: Path, title: str
) -> list[Path]:
    """The files FILES; returns their paths."""
    paths = [folder / name for name in FILES]
    write_losses(paths[0], outcome.losses)
    write_class_aps(paths[1], outcome.scores)
    shown = range(0, len(outcome.images), max(1, len(outcome.images) // settings.gallery_images))
    chosen = list(shown)[: settings.gallery_images]
    draw_detections(
        paths[2], test, [outcome.images[i] for i in chosen], [outcome.found[i] for i in chosen], title
    )
    return paths


def write_nothing(task: DetectionTask, folder: Path, reason: str) -> None:
    """The same files without rows, and a picture that says why: DVC wants all outputs of a stage."""
    write_empty_tables(folder / FILES[0], folder / FILES[1], task.with_masks)
    draw_nothing(folder / FILES[2], task.name, reason)


def chosen_images(split: DetectionSplit, count: int | None) -> list[DetectionImage]:
    """All images, or ``count`` of them spread evenly over the split."""
    if count is None or count >= len(split.images):
        return list(split.images)
    return [split.images[position * len(split.images) // count] for position in range(count)]


def _key(
    task: DetectionTask, train: DetectionSplit, backbone: BackboneWeights, settings: params.Detection
) -> str:
    return configuration_key(
        {"task": task.name, "settings": settings.model_dump(mode="json")},
        {"backbone": torchvision_engine.weights_digest(backbone), "train": _data_digest(train.images)},
    )


def _data_digest(images: Sequence[DetectionImage]) -> str:
    """SHA-256 over names, sizes on disk and objects of the training images."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(repr((image.image_id, image.path.stat().st_size, image.objects)).encode())
    return digest.hexdigest()
