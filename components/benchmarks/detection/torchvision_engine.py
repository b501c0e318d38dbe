"""Training and detection with torchvision's detectors, for machines without detectron2.

They train in the one loop (components.training), with an objective, SGD and a schedule of their own.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from components.benchmarks.detection.samples import (
    Draws,
    TrainSamples,
    Visits,
    draw_by_image,
    repeat_factors,
    train_batches,
)
from components.benchmarks.detection.torchvision_models import faster_rcnn_c4, mask_rcnn_fpn, set_image_sizes
from components.core.errors import InputError
from components.data.sampling import Shard
from components.objectives.interface import Objective, ObjectiveOutput
from components.training.checkpoints import CheckpointFolder
from components.training.distributed import SINGLE_PROCESS, Processes
from components.training.loop import Log, LoopOptions, train
from components.training.optimizer import Multiplier
from components.training.validation import Batch, TrainBatches, to_device

MOMENTUM = 0.9
GAMMA = 0.1  # factor at each milestone
WARMUP_FACTOR = 0.001  # of the learning rate at the first iteration
# What each loss is a mean over, by the names of Draws.
MEAN_OVER = {
    "loss_objectness": "anchors",
    "loss_rpn_box_reg": "anchors",
    "loss_classifier": "regions",
    "loss_box_reg": "regions",
    "loss_mask": "objects",
}


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


class DetectorObjective(Objective):
    """A detector's losses, summed; images count as tokens.

    Batch keys: ``image``, tensors ``(3, height, width)`` float32 between 0 and 1; ``target``, the boxes,
    labels and masks of each; ``visit`` ``(images,)`` int64, which decides the images' random numbers.

    Args:
        visual: torchvision's ``FasterRCNN`` or ``MaskRCNN``.
        draws: its random numbers, from ``draw_by_image``.
        processes: those that train together. Each one's losses are scaled so that their mean over
            processes is that over all images' samples: a process with more samples of a kind counts for
            more; the mean of means would count them alike.
    """

    def __init__(self, visual: nn.Module, draws: Draws, processes: Processes) -> None:
        super().__init__()
        self.visual = visual
        self._draws = draws
        self._processes = processes

    def forward(self, batch: Mapping[str, Any]) -> ObjectiveOutput:
        """Return the loss of a batch, with its parts by torchvision's names."""
        visits = batch["visit"]
        self._draws.begin(visits.tolist(), visits.device)
        losses = self._means_over_all(self.visual(batch["image"], batch["target"]))
        loss = torch.stack(list(losses.values())).sum()
        parts = {name: value.detach() for name, value in losses.items()}
        return ObjectiveOutput(loss, parts, torch.tensor(len(visits), device=visits.device))

    def _means_over_all(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        count = self._processes.count
        if count == 1:
            return losses
        names = sorted(set(MEAN_OVER.values()))
        own = torch.stack([getattr(self._draws, name) for name in names]).double()
        total = self._processes.all_reduce_sum(own.clone()).clamp(min=1)
        factors = dict(zip(names, (count * own / total).float(), strict=True))
        return {name: value * factors[MEAN_OVER[name]] for name, value in losses.items()}


def train_detector(
    objective: DetectorObjective,
    batches: Callable[[range], Any],
    settings: params.Detection,
    *,
    section: str,
    checkpoints: CheckpointFolder,
    processes: Processes,
    log: Log,
) -> list[dict[str, float]]:
    """Train ``objective`` in place, on its device, from the newest checkpoint if there is one.

    A run that was stopped and started again gives the same weights on a CPU as one that was not. How the
    images of an iteration are dealt to processes does not matter, but for batch normalisation.

    Args:
        batches: gives this process's batches of a range of iterations.
        section: of params.yaml, for messages.

    Returns:
        One row per logged iteration: ``iteration``, ``loss`` and its parts, means since the row before.

    Raises:
        KeyboardInterrupt: after SIGINT or SIGTERM, once a checkpoint is written.
        InputError: if the loss or its gradient is not finite.
    """
    optimizer = torch.optim.SGD(
        _decayed_and_not(objective, settings.weight_decay), lr=settings.learning_rate, momentum=MOMENTUM
    )
    after: TrainBatches = lambda done: batches(range(done, settings.iterations))  # noqa: E731
    options = LoopOptions(
        iterations=settings.iterations,
        validate_every=settings.iterations,
        checkpoint_every=settings.checkpoint_every,
        log_every=settings.log_every,
        section=section,
        advice=f"Lower {section}.learning_rate or lengthen {section}.warmup_iterations.",
        channels_last=False,
        seed=settings.seed,
    )
    state = train(
        objective,
        optimizer,
        schedule(settings),
        options,
        train_batches=after,
        val_batches=None,
        checkpoints=checkpoints,
        log=log,
        processes=processes,
    )
    parts = ({name: value for name, value in row.items() if name in MEAN_OVER} for row in state.history.train)
    return [
        {"iteration": row["iteration"], "loss": sum(of_row.values()), **of_row}
        for row, of_row in zip(state.history.train, parts, strict=True)
    ]


def schedule(settings: params.Detection) -> Multiplier:
    """Return detectron2's WarmupMultiStepLR: steps, which a linear warm-up multiplies."""

    def factor(iteration: int) -> float:
        steps = GAMMA ** sum(iteration >= milestone for milestone in settings.milestones)
        if iteration >= settings.warmup_iterations:
            return steps
        done = iteration / settings.warmup_iterations
        return steps * (WARMUP_FACTOR * (1 - done) + done)

    return factor


def _decayed_and_not(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return parameter groups: batch normalisation does not decay, as in detectron2."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    kept = {id(parameter) for layer in layers for parameter in layer.parameters()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trained if id(parameter) not in kept]
    normalisation = [parameter for parameter in trained if id(parameter) in kept]
    return [
        {"params": decayed, "part": "detector", "weight_decay": weight_decay},
        {"params": normalisation, "part": "detector", "weight_decay": 0.0},
    ]


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
