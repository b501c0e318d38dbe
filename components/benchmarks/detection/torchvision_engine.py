"""Training and detection with torchvision's detectors, for machines without detectron2."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from components import params
from components.benchmarks.detection.data import DetectionImage, DetectionSplit
from components.benchmarks.detection.detections import Detections
from components.benchmarks.detection.prediction import detect
from components.benchmarks.detection.repeat_factors import repeat_factors
from components.benchmarks.detection.samples import TrainSamples, Visits
from components.benchmarks.detection.task import BackboneWeights, DetectionTask
from components.benchmarks.detection.torchvision_models import (
    DetectorSizes,
    faster_rcnn_c4,
    mask_rcnn_fpn,
    set_image_sizes,
)
from components.benchmarks.detection.training import (
    DetectorSchedule,
    Log,
    recompute_normalisation,
    train_detector,
)
from components.errors import InputError
from components.training.checkpoints import CheckpointFolder

DETECTORS = {"mask_rcnn_fpn": mask_rcnn_fpn, "faster_rcnn_c4": faster_rcnn_c4}


def fit_and_detect(
    task: DetectionTask,
    train: DetectionSplit,
    test: Sequence[DetectionImage],
    backbone: BackboneWeights,
    settings: params.Detection,
    *,
    scratch_dir: Path,
    device: torch.device,
    num_workers: int,
    log: Log,
) -> tuple[list[Detections], list[dict[str, float]]]:
    """Fine-tune a detector from a backbone and apply it to the test images.

    Args:
        task: which detector and what it finds.
        train: images to train on; those without objects are left out.
        test: images to look at.
        backbone: by torchvision's names.
        settings: the benchmark's section.
        scratch_dir: of resume checkpoints, for this very configuration; removed by the caller.
        device: to train on.
        num_workers: loader processes.
        log: receives the losses with the iterations done.

    Returns:
        what was found in each test image, and the losses by iteration.

    Raises:
        InputError: no training image shows an object, or the loss is not finite.
    """
    images = [image for image in train.images if any(not item.is_crowd for item in image.objects)]
    if not images:
        raise InputError(f"{task.name}: not one of the {len(train.images)} training images shows an object")
    torch.manual_seed(settings.seed)
    model = DETECTORS[task.detector](
        backbone.architecture, backbone.tensors, _sizes(settings, len(train.classes)), settings.norm
    )
    samples = TrainSamples(images, task.with_masks)
    visits = Visits(repeat_factors(images, settings.repeat_threshold), settings.seed, settings.batch_size)
    rows = train_detector(
        model,
        samples,
        visits,
        _schedule(settings),
        checkpoints=CheckpointFolder(scratch_dir, scratch_dir.name, keep=1),
        device=device,
        num_workers=num_workers,
        log=log,
    )
    if settings.norm == "batch":
        recompute_normalisation(
            model,
            samples,
            visits,
            num_batches=settings.precise_bn_batches,
            device=device,
            num_workers=num_workers,
        )
    set_image_sizes(model, [settings.test_size])
    found = detect(
        model, test, batch_size=settings.batch_size, device=device, num_workers=num_workers, progress=True
    )
    return found, rows


def weights_digest(backbone: BackboneWeights) -> str:
    """SHA-256 of a backbone, for the key of a checkpoint folder."""
    digest = hashlib.sha256(json.dumps([backbone.architecture, sorted(backbone.tensors)]).encode())
    for name in sorted(backbone.tensors):
        digest.update(np.ascontiguousarray(backbone.tensors[name].cpu().numpy()).tobytes())
    return digest.hexdigest()


def _sizes(settings: params.Detection, num_classes: int) -> DetectorSizes:
    return DetectorSizes(
        num_classes,
        tuple(settings.train_sizes),
        settings.test_size,
        settings.max_size,
        tuple(settings.anchor_sizes),
        settings.rois_per_image,
        settings.test_proposals,
        settings.detections_per_image,
        settings.score_threshold,
    )


def _schedule(settings: params.Detection) -> DetectorSchedule:
    return DetectorSchedule(
        settings.iterations,
        settings.learning_rate,
        settings.weight_decay,
        settings.warmup_iterations,
        tuple(settings.milestones),
        settings.checkpoint_every,
        settings.log_every,
    )
