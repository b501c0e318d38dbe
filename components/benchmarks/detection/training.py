"""Training torchvision's detectors: SGD by iterations, resumable at any of them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from components.benchmarks.detection.samples import Sample, Target, TrainSamples, Visits
from components.errors import InputError
from components.training.checkpoints import CheckpointFolder
from components.training.progress import Progress
from components.training.random_state import random_states, set_random_state, unchanged_random_state
from components.training.stopping import Stopped, StopRequest

Log = Callable[[dict[str, float], int], None]
MOMENTUM = 0.9
GAMMA = 0.1  # factor at each milestone
WARMUP_FACTOR = 0.001  # of the learning rate at the first iteration


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
    samples: TrainSamples,
    visits: Visits,
    schedule: DetectorSchedule,
    *,
    checkpoints: CheckpointFolder,
    device: torch.device,
    num_workers: int,
    log: Log,
) -> list[dict[str, float]]:
    """Train ``model`` in place, from the newest checkpoint if there is one.

    A run that was stopped and started again gives the same weights on a CPU as one that was not.

    Returns:
        One row a logged iteration: ``iteration``, ``loss`` and its parts, means since the row before.

    Raises:
        KeyboardInterrupt: after SIGINT or SIGTERM, once a checkpoint is written.
        InputError: if the loss is not finite.
    """
    model.to(device).train()
    optimizer = torch.optim.SGD(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=schedule.learning_rate,
        momentum=MOMENTUM,
        weight_decay=schedule.weight_decay,
    )
    run = _Run(model, optimizer)
    run.resume(checkpoints, log)
    with StopRequest() as stop, Progress(schedule.iterations, run.iteration) as progress:
        try:
            batches = stop.watch(_batches(samples, visits, run.iteration, schedule.iterations, num_workers))
            while run.iteration < schedule.iterations:
                with unchanged_random_state():
                    images, targets = _to_device(next(batches), device)
                for group in optimizer.param_groups:
                    group["lr"] = schedule.learning_rate * schedule.factor(run.iteration)
                losses: dict[str, Tensor] = model(images, targets)
                optimizer.zero_grad()
                torch.stack(list(losses.values())).sum().backward()
                optimizer.step()
                run.add(losses)
                progress.advance(len(images))
                if run.iteration % schedule.log_every == 0 or run.iteration == schedule.iterations:
                    row = run.close_row()
                    log({f"train/{name}": value for name, value in row.items()}, run.iteration)
                    progress.show({"loss": row["loss"]})
                if run.iteration % schedule.checkpoint_every == 0 and run.iteration < schedule.iterations:
                    run.save(checkpoints)
        except Stopped:
            run.save(checkpoints)
            raise KeyboardInterrupt(f"stopped after iteration {run.iteration}") from None
    return run.rows


class _Run:
    """A run between two iterations, and what is written of it."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model = model
        self.optimizer = optimizer
        self.device = next(model.parameters()).device
        self.iteration = 0
        self.rows: list[dict[str, float]] = []
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, losses: dict[str, Tensor]) -> None:
        self.iteration += 1
        self._count += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value.detach()

    def close_row(self) -> dict[str, float]:
        parts = {name: float(total) / self._count for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        loss = sum(parts.values())
        if not math.isfinite(loss):
            raise InputError(
                f"the detection loss is not finite at iteration {self.iteration}: {parts}; lower the "
                f"learning rate or lengthen the warm-up of this benchmark in params.yaml"
            )
        row = {"loss": loss, **parts}
        self.rows.append({"iteration": self.iteration, **row})
        return row

    def save(self, checkpoints: CheckpointFolder) -> None:
        state: dict[str, Any] = {
            "iteration": self.iteration,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": random_states(self.device),
            "rows": self.rows,
            "sums": self._sums,
            "count": self._count,
        }
        checkpoints.save(self.iteration, state)

    def resume(self, checkpoints: CheckpointFolder, log: Log) -> None:
        checkpoint = checkpoints.latest()
        if checkpoint is None:
            return
        state = checkpoint.state
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._sums = {name: value.to(self.device) for name, value in state["sums"].items()}
        self._count, self.rows, self.iteration = state["count"], state["rows"], state["iteration"]
        set_random_state(state["random"], self.device)
        for row in self.rows:
            log({f"train/{k}": v for k, v in row.items() if k != "iteration"}, int(row["iteration"]))
        print(f"continuing after iteration {self.iteration}, from {checkpoint.path}", flush=True)


def recompute_normalisation(
    model: nn.Module,
    samples: TrainSamples,
    visits: Visits,
    *,
    num_batches: int,
    device: torch.device,
    num_workers: int,
) -> None:
    """Replace the running statistics of batch normalisation by those of ``num_batches`` training batches.

    The weights stay ("precise BN", arXiv 2105.07576, as in the paper's detectron2 configurations).
    """
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not layers or num_batches == 0:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over batches
    model.to(device).train()
    with torch.no_grad():
        for batch in _batches(samples, visits, 0, num_batches, num_workers):
            model(*_to_device(batch, device))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def _batches(
    samples: TrainSamples, visits: Visits, start: int, iterations: int, num_workers: int
) -> Iterator[list[Sample]]:
    loader: DataLoader[Any] = DataLoader(
        samples,
        batch_sampler=list(visits.batches(start, iterations)),
        collate_fn=list,
        num_workers=num_workers,
        generator=torch.Generator().manual_seed(0),
        worker_init_fn=_start_worker,
    )
    return iter(loader)


def _start_worker(_worker: int) -> None:
    torch.set_num_threads(1)


def _to_device(batch: list[Sample], device: torch.device) -> tuple[list[Tensor], list[Target]]:
    images = [image.to(device, non_blocking=True) for image, _ in batch]
    targets: list[Any] = [
        {name: torch.as_tensor(value).to(device, non_blocking=True) for name, value in target.items()}
        for _, target in batch
    ]
    return images, targets
