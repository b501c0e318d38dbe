"""The state of torch's random generators. Python's and numpy's global ones are not used here."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from components.training.distributed import ALONE, Processes


class RandomState(TypedDict):
    """States of the CPU generator and of that of the GPU trained on, empty on a CPU; uint8."""

    cpu: Tensor
    gpu: Tensor


def random_states(device: torch.device, processes: Processes = ALONE) -> list[RandomState]:
    """The present states of all processes, by rank."""
    on_gpu = device.type == "cuda"
    cpu = torch.get_rng_state()
    gpu = torch.cuda.get_rng_state(device) if on_gpu else torch.empty(0, dtype=torch.uint8)
    gpus = processes.gathered(gpu) if on_gpu else [gpu] * processes.count
    return [{"cpu": one, "gpu": other} for one, other in zip(processes.gathered(cpu), gpus, strict=True)]


def set_random_state(states: Sequence[RandomState], device: torch.device, rank: int = 0) -> None:
    """Restore one process's state, out of those of all; a GPU that is new keeps its own."""
    torch.set_rng_state(states[rank]["cpu"])
    if device.type == "cuda" and len(states[rank]["gpu"]):
        torch.cuda.set_rng_state(states[rank]["gpu"], device)


def seed_process(seed: int, rank: int, iteration: int = 0) -> None:
    """Give a process numbers of its own, for a run that begins after ``iteration`` iterations."""
    sequence = np.random.SeedSequence(seed, spawn_key=(rank, iteration))
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))


@contextmanager
def unchanged_random_state() -> Iterator[None]:
    """Undo every draw made inside, so that it cannot shift what training draws.

    A DataLoader, for one, draws its workers' seed from the global generator whenever it is started.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        yield
