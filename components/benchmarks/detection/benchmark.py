"""The three detection benchmarks (paper, section 4.3; MoCo, arXiv 1911.05722, appendix A), start to figures.

Trained: a whole detector from a pretrained backbone, of which nothing is frozen but by ``freeze_at``. Mask
R-CNN with FPN on COCO train2017 and on LVIS v1 train, whose rare categories are seen more often; Faster R-CNN
C4 with a normalisation after res5 on VOC trainval. SGD with momentum 0.9, linear warm-up, the learning rate
falls tenfold at milestones; then the statistics of batch normalisation are renewed over training batches.

Measured: AP of boxes and masks on COCO val2017 and LVIS v1 val (the latter also of rare, common and frequent
categories), AP, AP50 and AP75 of boxes on VOC2007 test. Either engine trains and detects; what it finds is
scored by the same code.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from components import params
from components.benchmarks.detection import detectron2_engine, torchvision_engine
from components.benchmarks.detection.data import (
    COCO_SEGMENTATION,
    LVIS_SEGMENTATION,
    VOC_DETECTION,
    BackboneWeights,
    DetectionImage,
    DetectionSplit,
    DetectionTask,
    TaskData,
)
from components.benchmarks.detection.detections import Detections, draw_detections, from_json, to_json
from components.benchmarks.detection.matches import by_image
from components.benchmarks.detection.scores import (
    COCO_RECALLS,
    VOC_RECALLS,
    coco_scores,
    frequency_groups,
    lvis_scores,
    voc_scores,
)
from components.benchmarks.shared.files import Run, record_nothing
from components.benchmarks.shared.per_image import FILE, PerImage
from components.benchmarks.shared.protocols import beside_figures
from components.core import machine, paths
from components.core.errors import InputError
from components.core.files import write_csv
from components.core.memory import batch_bytes, require_memory
from components.data.sampling import Shard
from components.models.backbones import load_backbone
from components.training.checkpoints import configuration_key
from components.training.distributed import SINGLE_PROCESS, Processes, current
from components.training.loop import Log

ENGINES = {"torchvision": torchvision_engine.fit_and_detect, "detectron2": detectron2_engine.fit_and_detect}
# Percent by ``box`` and, with masks, ``mask``: figures by name, ``classes``, AP by class, and the ``matches``
# that they come from.
SCORES: Mapping[DetectionTask, Callable[[DetectionSplit, Sequence[Detections]], dict[str, Any]]] = {
    COCO_SEGMENTATION: coco_scores,
    LVIS_SEGMENTATION: lvis_scores,
    VOC_DETECTION: voc_scores,
}
NO_CHANCE: dict[str, float] = {}  # boxes drawn at random hit nothing, but nobody can say how seldom
NO_OBJECTS = "no objects of this kind in the test images"
FILES = ("losses.csv", "ap.csv", "detections.png", FILE)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one backbone reached.

    Attributes:
        scores: percent, by kind (``box``, ``mask``) and figure.
        losses: by iteration.
        images: the test images, in the order of ``found``.
        found: detections in them.
        by_image: what the bounds of AP come from.
        seconds: wall-clock time of training and detecting in this process.
    """

    scores: dict[str, Any]
    losses: list[dict[str, float]]
    images: list[DetectionImage]
    found: list[Detections]
    by_image: PerImage
    seconds: float

    def figures(self) -> dict[str, Any]:
        """Return what goes into metrics.json, without figures that nothing is known for."""
        scores = {
            kind: {name: value for name, value in group.items() if isinstance(value, float)}
            for kind, group in self.scores.items()
        }
        unknown = {
            f"{kind}.{name}": NO_OBJECTS
            for kind, group in self.scores.items()
            for name, value in group.items()
            if value is None
        }
        return {
            **scores,
            **({"not_run": unknown} if unknown else {}),
            "train_loss": self.losses[-1]["loss"],
            "images": len(self.images),
            "detections": sum(len(found.scores) for found in self.found),
            "seconds": round(self.seconds, 1),
        }

    def headline(self, task: DetectionTask) -> str:
        """Return AP, AP50 and AP75 of the kind that the benchmark is known by, for people."""
        kind = "mask" if task.with_masks else "box"
        group = self.scores[kind]
        return ", ".join(
            f"{kind} {name} {group[name]:.2f} %" if group[name] is not None else f"{name} unknown"
            for name in ("AP", "AP50", "AP75")
        )


def run_recorded(
    run: Run, task: DetectionTask, name: str, data: TaskData | str, settings: params.Detection
) -> None:
    """Benchmark the exported backbone ``name``, and write its figures and files.

    Training continues from the newest checkpoint of the same configuration if there is one. Several processes
    may do so together (components.training.distributed); the first one writes.

    Args:
        run: where figures, files and progress go.
        task: which benchmark.
        name: of the backbone.
        data: training and test images; or why this run has none, which makes its results empty.
        settings: the benchmark's section of params.yaml.
    """
    if isinstance(data, str):
        _record_nothing(run, task, reason=data)
        return
    train, test = data.train, data.test
    if task.with_masks and not (train.has_masks and test.has_masks):
        lacking = "test" if train.has_masks else "training"
        _record_nothing(run, task, reason=f"no object of the {lacking} images has a mask (`segmentation`)")
        return
    backbone, metadata = load_backbone(paths.backbone_path(name))
    measured = run_benchmark(
        task,
        train,
        test,
        BackboneWeights(metadata["architecture"], backbone.state_dict()),
        settings,
        scratch_dir=paths.SCRATCH_DIR / task.name,
        device=torch.device(machine.device_name()),
        num_workers=machine.num_cpus(),
        processes=current(),
        log=run.log,
    )
    if measured is None:
        return
    title = f"{task.name} from {name}, {settings.engine}"
    for path in write_files(measured, test, settings, run.output_dir, title):
        run.artifact(path)
    has_pyramid = params.is_timm(metadata["architecture"])
    about = beside_figures(task.name, settings, measured.by_image, NO_CHANCE, is_otherwise=has_pyramid)
    run.metrics({**measured.figures(), **about})
    print(f"{title}: {measured.headline(task)}", flush=True)


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
    processes: Processes = SINGLE_PROCESS,
    log: Log,
) -> Measured | None:
    """Fine-tune from ``backbone``, detect in the test images, score.

    Checkpoints lie below ``scratch_dir`` under a key of the settings, the data and the weights; they are
    removed once the figures are there. Several processes may call this together; the first one gets the
    result, the others None.

    Raises:
        InputError: the sets have different classes, there is nothing to train on, or the engine is missing.
    """
    if train.classes != test.classes:
        raise InputError(f"{task.name}: training and test set name different classes")
    # Of an image either the shorter side is one of train_sizes or the longer one max_size; no photograph is
    # ten times as long as wide.
    side = min(*settings.train_sizes, settings.max_size // 10)
    keys = f"a batch ({task.name}.batch_size {settings.batch_size}, images of {side} pixels and more)"
    part_size = Shard(processes.rank, processes.count).batch_size(settings.batch_size)
    require_memory(str(device), {keys: batch_bytes(part_size, side)})
    images = chosen_images(test, settings.max_test_images)
    scratch_dir = scratch_dir / configuration_key(
        {"task": task.name, "settings": settings.model_dump(mode="json")},
        {"backbone": backbone.digest(), "train": train.digest()},
    )
    start = time.perf_counter()
    found, losses = ENGINES[settings.engine](
        task,
        train,
        images,
        backbone,
        settings,
        scratch_dir=scratch_dir,
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
    scores = SCORES[task](test, found)
    shutil.rmtree(scratch_dir, ignore_errors=True)
    recalls = COCO_RECALLS if task.with_masks else VOC_RECALLS
    groups = frequency_groups(test) if task is LVIS_SEGMENTATION else {}
    results = by_image(scores, [image.image_id for image in images], recalls, groups)
    return Measured(scores, losses, images, found, results, seconds)


def chosen_images(split: DetectionSplit, count: int | None) -> list[DetectionImage]:
    """Return all images, or ``count`` of them spread evenly over the split."""
    if count is None or count >= len(split.images):
        return list(split.images)
    return [split.images[position * len(split.images) // count] for position in range(count)]


def write_files(
    measured: Measured, test: DetectionSplit, settings: params.Detection, folder: Path, title: str
) -> list[Path]:
    """Write losses, AP by class, the detections in some images and results by image; return the paths."""
    losses, class_aps, picture, results = files = [folder / name for name in FILES]
    columns = list(measured.losses[0])
    write_csv(losses, columns, ([f"{row[name]:.6g}" for name in columns] for row in measured.losses))
    by_kind = {kind: group["classes"].values() for kind, group in measured.scores.items()}
    rows = zip(test.classes, *by_kind.values(), strict=True)
    write_csv(
        class_aps,
        ["class", *by_kind],
        ([name, *("" if ap is None else f"{ap:.4f}" for ap in aps)] for name, *aps in rows),
    )
    shown = range(0, len(measured.images), max(1, len(measured.images) // settings.gallery_images))
    chosen = shown[: settings.gallery_images]
    images, found = [measured.images[i] for i in chosen], [measured.found[i] for i in chosen]
    draw_detections(picture, images, found, test.classes, title)
    measured.by_image.write(results)
    return files


def _record_nothing(run: Run, task: DetectionTask, reason: str) -> None:
    if not current().is_first:
        return
    losses, class_aps, picture, results = FILES
    columns = {
        losses: ("iteration", "loss"),
        class_aps: ("class", "box", *(["mask"] if task.with_masks else [])),
    }
    PerImage.nothing().write(run.output_dir / results)
    record_nothing(run, task.name, reason, columns, picture)
