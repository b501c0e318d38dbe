"""Training torchvision's detectors: SGD by iterations, resumable at any, in one process or several."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from components.benchmarks.detection.batches import part_batches, part_of, to_device
from components.benchmarks.detection.run_state import DetectorRun, Log
from components.benchmarks.detection.samples import TrainSamples, Visits
from components.benchmarks.detection.sampling import Draws
from components.training.checkpoints import CheckpointFolder
from components.training.distributed import Processes
from components.training.metrics import Progress
from components.training.stopping import Stopped, StopRequest

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


@dataclass(frozen=True, slots=True)
class DetectorSchedule:
    """SGD with linear warm-up and steps; counts are iterations."""

    iterations: int
    learning_rate: float
    weight_decay: float
    warmup_iterations: int
    milestones: tuple[int, ...]
    checkpoint_every: int
    log_every: int

    def factor(self, iteration: int) -> float:
        """On the learning rate of the 0-based ``iteration``."""
        factor = GAMMA ** sum(iteration >= milestone for milestone in self.milestones)
        if iteration < self.warmup_iterations:
            done = iteration / self.warmup_iterations
            factor *= WARMUP_FACTOR * (1 - done) + done
        return factor


def train_detector(
    model: nn.Module,
    draws: Draws,
    samples: TrainSamples,
    visits: Visits,
    schedule: DetectorSchedule,
    *,
    checkpoints: CheckpointFolder,
    device: torch.device,
    num_workers: int,
    processes: Processes,
    log: Log,
) -> list[dict[str, float]]:
    """Train ``model`` in place, from the newest checkpoint if there is one.

    A run that was stopped and started again gives the same weights on a CPU as one that was not. Several
    processes call this together; each works on its part of every iteration's images, and the losses are
    means over those of all, so that only batch normalisation can tell how many there are.

    Returns:
        One row a logged iteration: ``iteration``, ``loss`` and its parts, means since the row before.

    Raises:
        KeyboardInterrupt: after SIGINT or SIGTERM, once a checkpoint is written.
        InputError: if the loss is not finite, or the images cannot be dealt out evenly.
    """
    model.to(device).train()
    wrapped = processes.spread(model, device)
    optimizer = torch.optim.SGD(
        _decayed_and_not(model, schedule.weight_decay), lr=schedule.learning_rate, momentum=MOMENTUM
    )
    run = DetectorRun(model, optimizer, processes, log)
    run.resume(checkpoints)
    with (
        StopRequest(processes) as stop,
        Progress(schedule.iterations, run.iteration, is_shown=processes.is_first) as progress,
    ):
        try:
            batches = stop.watch(
                part_batches(samples, visits, run.iteration, schedule.iterations, num_workers, processes)
            )
            while run.iteration < schedule.iterations:
                images, targets = to_device(next(batches), device)
                for group in optimizer.param_groups:
                    group["lr"] = schedule.learning_rate * schedule.factor(run.iteration)
                draws.begin(visits.numbers(run.iteration)[part_of(processes)], device)
                losses = _means_over_all(wrapped(images, targets), draws, processes)
                optimizer.zero_grad()
                torch.stack(list(losses.values())).sum().backward()
                optimizer.step()
                run.add(losses)
                progress.advance(visits.batch_size)
                if run.iteration % schedule.log_every == 0 or run.iteration == schedule.iterations:
                    row = run.close_row()
                    progress.show({"loss": row["loss"]})
                if run.iteration % schedule.checkpoint_every == 0 and run.iteration < schedule.iterations:
                    run.save(checkpoints)
        except Stopped:
            run.save(checkpoints)
            raise KeyboardInterrupt(f"stopped after iteration {run.iteration}") from None
    return run.losses.rows


def _means_over_all(losses: dict[str, Tensor], draws: Draws, processes: Processes) -> dict[str, Tensor]:
    """This process's losses, scaled so that their mean over processes is that over all images' samples.

    A process with more samples of a kind counts for more; the mean of means would count them alike.
    """
    if processes.count == 1:
        return losses
    names = sorted(set(MEAN_OVER.values()))
    own = torch.stack([getattr(draws, name) for name in names]).double()
    total = processes.add_up(own.clone()).clamp(min=1)
    factors = dict(zip(names, (processes.count * own / total).float(), strict=True))
    return {name: value * factors[MEAN_OVER[name]] for name, value in losses.items()}


def _decayed_and_not(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: batch normalisation does not decay, as in detectron2."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    kept = {id(parameter) for layer in layers for parameter in layer.parameters()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if id(p) not in kept], "weight_decay": weight_decay},
        {"params": [p for p in trained if id(p) in kept], "weight_decay": 0.0},
    ]
