"""Losses as both engines log them, and as their checkpoints carry them."""

import copy
from typing import Any

import pytest
import torch

from components.benchmarks.detection.detectron2_engine import LossRows
from components.core.errors import InputError

LOSSES = [{"loss_box": float(number), "loss_mask": 2.0 * number} for number in range(1, 8)]


def train(losses: LossRows, start: int, end: int) -> None:
    """Iterations ``start`` to ``end - 1``, with a row every third and after the seventh."""
    for done in range(start + 1, end + 1):
        losses.add({name: torch.tensor(value) for name, value in LOSSES[done - 1].items()})
        if done % 3 == 0 or done == len(LOSSES):
            losses.close(done)


def new() -> tuple[LossRows, list[Any]]:
    logged: list[Any] = []
    return LossRows(lambda metrics, iteration: logged.append((iteration, metrics["train/loss"]))), logged


def test_rows_are_means_since_the_row_before() -> None:
    losses, logged = new()
    train(losses, 0, 7)
    assert losses.rows == [
        {"iteration": 3, "loss": 6.0, "loss_box": 2.0, "loss_mask": 4.0},
        {"iteration": 6, "loss": 15.0, "loss_box": 5.0, "loss_mask": 10.0},
        {"iteration": 7, "loss": 21.0, "loss_box": 7.0, "loss_mask": 14.0},
    ]
    assert logged == [(3, 6.0), (6, 15.0), (7, 21.0)]


@pytest.mark.parametrize("killed_after", [1, 3, 5, 7])
def test_a_run_that_goes_on_has_the_losses_before(killed_after: int) -> None:
    whole, in_one_go = new()
    train(whole, 0, 7)
    before, _ = new()
    train(before, 0, killed_after)
    kept = copy.deepcopy(before.state_dict())
    after, logged = new()
    after.load_state_dict(kept)
    train(after, killed_after, 7)
    assert after.rows == whole.rows
    assert logged == in_one_go


def test_a_loss_that_is_not_finite_says_what_to_do() -> None:
    losses, _ = new()
    losses.add({"loss_box": torch.tensor(float("nan"))})
    with pytest.raises(InputError, match=r"not finite at iteration 4: .*lower the learning rate"):
        losses.close(4)
