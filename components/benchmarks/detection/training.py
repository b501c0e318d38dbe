"""torchvision's detectors in the one training loop (components.training): objective, SGD, schedule."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from components import params
from components.benchmarks.detection.sampling import Draws
from components.objectives.interface import Objective, ObjectiveOutput
from components.training.checkpoints import CheckpointFolder
from components.training.distributed import Processes
from components.training.loop import Log, LoopOptions, train
from components.training.optimizer import Multiplier
from components.training.validation import TrainBatches

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
