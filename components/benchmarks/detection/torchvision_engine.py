"""Training and detection with torchvision's detectors, for machines without detectron2."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from components import params
from components.benchmarks.detection.data import (
    BackboneWeights,
    DetectionImage,
    DetectionSplit,
    DetectionTask,
)
from components.benchmarks.detection.detections import Detections, detect
from components.benchmarks.detection.samples import TrainSamples, Visits, repeat_factors, train_batches
from components.benchmarks.detection.sampling import draw_by_image
from components.benchmarks.detection.torchvision_models import faster_rcnn_c4, mask_rcnn_fpn, set_image_sizes
from components.benchmarks.detection.training import DetectorObjective, train_detector
from components.core.errors import InputError
from components.data.sampling import Shard
from components.training.checkpoints import CheckpointFolder
from components.training.distributed import SINGLE_PROCESS, Processes
from components.training.loop import Log
from components.training.validation import Batch, to_device


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
    processes: Processes,
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
        processes: that train together; all call this, each looks at its part of the test images.
        log: receives the losses with the iterations done.

    Returns:
        what was found in each test image, and the losses by iteration.

    Raises:
        InputError: no training image shows an object, the loss is not finite, or ``batch_size`` images
            cannot be divided evenly among the processes.
    """
    images = [image for image in train.images if any(not item.is_crowd for item in image.objects)]
    if not images:
        raise InputError(f"{task.name}: none of the {len(train.images)} training images shows an object")
    Shard(processes.rank, processes.count).batch_size(settings.batch_size)
    torch.manual_seed(settings.seed)
    model = _detector(settings, backbone, len(train.classes))
    if settings.norm == "batch" and processes.count > 1:
        model = _synchronised(model, device, processes)
    objective = DetectorObjective(model, draw_by_image(model, settings.seed), processes).to(device)
    samples = TrainSamples(images, task.with_masks)
    visits = Visits(repeat_factors(images, settings.repeat_threshold), settings.seed, settings.batch_size)

    def batches(iterations: range) -> Iterator[dict[str, Any]]:
        return train_batches(samples, visits, iterations, num_workers, processes)

    rows = train_detector(
        objective,
        batches,
        settings,
        section=task.name,
        checkpoints=CheckpointFolder(scratch_dir / "checkpoints", scratch_dir.name, keep=1),
        processes=processes,
        log=log,
    )
    if settings.norm == "batch":
        recompute_normalisation(objective, batches(range(settings.precise_bn_batches)), device, processes)
    set_image_sizes(model, [settings.test_size])
    found = detect(
        model,
        test[processes.rank :: processes.count],
        batch_size=max(1, settings.batch_size // processes.count),
        device=device,
        num_workers=num_workers,
        progress=processes.is_first,
    )
    return found, rows


def _detector(settings: params.Detection, backbone: BackboneWeights, num_classes: int) -> GeneralizedRCNN:
    if isinstance(settings, params.Segmentation):
        return mask_rcnn_fpn(backbone.architecture, backbone.tensors, num_classes, settings)
    assert isinstance(settings, params.VocDetection)
    return faster_rcnn_c4(backbone.architecture, backbone.tensors, num_classes, settings)


def _synchronised(model: GeneralizedRCNN, device: torch.device, processes: Processes) -> GeneralizedRCNN:
    """Normalise over the images of all processes, as the paper does; on CPUs over those of each one."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if processes.is_first:
        print("batch normalisation is over the images of each process: torch cannot do better on CPUs")
    return model


def recompute_normalisation(
    objective: DetectorObjective, batches: Iterable[Batch], device: torch.device, processes: Processes
) -> None:
    """Replace the running statistics of batch normalisation by those of some training batches.

    The weights stay ("precise BN", arXiv 2105.07576, as in the paper's detectron2 configurations).
    """
    layers = [module for module in objective.modules() if isinstance(module, _BatchNorm)]
    if not layers:
        return
    objective.to(device).train()
    with torch.no_grad(), population_statistics(layers, processes):
        for batch in batches:
            objective(to_device(batch, device, torch.contiguous_format))


@contextmanager
def population_statistics(
    layers: Sequence[_BatchNorm], processes: Processes = SINGLE_PROCESS
) -> Iterator[None]:
    """Leave in ``layers`` the mean and variance of all that passes through them meanwhile, in all processes.

    As fvcore's ``update_bn_stats``, which detectron2 calls: every position of every batch counts alike, and
    the variance is that of all positions together, not the mean over batches of each one's own.
    """
    with ExitStack() as undone:
        populations = []
        for layer in layers:
            populations.append(_Population(layer))
            undone.callback(setattr, layer, "momentum", layer.momentum)
            layer.momentum = 1.0  # the running statistics become those of the batch
            undone.callback(layer.register_forward_hook(populations[-1].add).remove)
        yield
        for population in populations:
            population.store(processes)


class _Population:
    """Sums over the positions that one layer has seen; float64, as the variance is a small difference."""

    def __init__(self, layer: _BatchNorm) -> None:
        assert layer.running_mean is not None
        self.layer = layer
        self.count = torch.zeros((), dtype=torch.float64, device=layer.running_mean.device)
        self.mean = torch.zeros_like(layer.running_mean, dtype=torch.float64)
        self.square = self.mean.clone()

    def add(self, layer: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        """Add a batch; a forward hook."""
        count = inputs[0].numel() // inputs[0].shape[1]
        mean, variance = layer.running_mean.double(), layer.running_var.double()
        self.count += count
        self.mean += count * mean
        self.square += count * mean.square() + (count - 1) * variance  # torch divides by count - 1

    def store(self, processes: Processes) -> None:
        """Put mean and variance into the layer; it stays as it is if it has seen nothing."""
        for sums in (self.count, self.mean, self.square):
            processes.all_reduce_sum(sums)
        if not self.count:
            return
        mean = self.mean / self.count
        for held, value in (
            (self.layer.running_mean, mean),
            (self.layer.running_var, (self.square / self.count - mean.square()).clamp(min=0)),
        ):
            assert held is not None
            held.copy_(value)
