"""The state of torch's random generators. Python's and numpy's global ones are not used here."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

import torch
from torch import Tensor


class RandomState(TypedDict):
    """States of the CPU generator and of those of all GPUs."""

    cpu: Tensor
    cuda: list[Tensor]


def random_state() -> RandomState:
    """The present states."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}


def set_random_state(state: RandomState) -> None:
    """Restore what ``random_state`` returned; GPUs that have come or gone keep their own state."""
    torch.set_rng_state(state["cpu"])
    for index, cuda_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(cuda_state, index)


@contextmanager
def unchanged_random_state() -> Iterator[None]:
    """Undo every draw made inside, so that it cannot shift what training draws.

    A DataLoader, for one, draws its workers' seed from the global generator whenever it is started.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        yield
