"""All that changes while training, together, so that it can be saved and continued exactly."""

from typing import Any

import torch

from components import params
from components.objectives.interface import Objective
from components.training.averages import Averages
from components.training.distributed import ALONE, Processes
from components.training.history import History
from components.training.optimizer import build_optimizer
from components.training.precision import grad_scaler
from components.training.random_state import random_states, seed_process, set_random_state
from components.training.schedules import LearningRateSchedule, multiplier

PARTS = (
    "iteration",
    "objective",
    "optimizer",
    "schedule",
    "scaler",
    "random",
    "averages",
    "history",
    "num_images",
    "seconds",
)


class TrainingState:
    """A training run between two iterations.

    Attributes:
        iteration: iterations done.
        averages: what was measured since the last row of ``history``.
        history: rows measured so far.
        num_images: images trained on so far.
        seconds: time spent training so far, without validation and checkpoints.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: params.Optimizer,
        schedule: params.Schedule,
        precision: str,
        device: torch.device,
        seed: int = 0,
        processes: Processes = ALONE,
    ) -> None:
        self.device = device
        self.seed = seed
        self.processes = processes
        self.objective = objective
        self.optimizer = build_optimizer(objective, optimizer)
        self.schedule = LearningRateSchedule(self.optimizer, multiplier(schedule))
        self.scaler = grad_scaler(device, precision)
        self.averages = Averages()
        self.history = History()
        self.iteration = 0
        self.num_images = 0
        self.seconds = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only, the random states of all processes included, which all must ask."""
        return {
            "iteration": self.iteration,
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": random_states(self.device, self.processes),
            "averages": self.averages.state_dict(),
            "history": {"train": self.history.train, "val": self.history.val},
            "num_images": self.num_images,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what ``state_dict`` returned.

        With as many processes as then the run goes on exactly. With more or fewer each draws its dropout
        from a new random stream; the images of every iteration stay the same.

        Raises:
            ValueError: if a part is missing or unknown.
        """
        if set(state) != set(PARTS):
            raise ValueError(f"a training state has {sorted(PARTS)}, found {sorted(state)}")
        self.iteration = state["iteration"]
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.averages.load_state_dict(state["averages"], self.device)
        self.history = History(list(state["history"]["train"]), list(state["history"]["val"]))
        self.num_images = state["num_images"]
        self.seconds = state["seconds"]
        if len(state["random"]) == self.processes.count:
            set_random_state(state["random"], self.device, self.processes.rank)
        else:
            seed_process(self.seed, self.processes.rank, self.iteration)
