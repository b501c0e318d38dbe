import csv
import math
from pathlib import Path

import pytest
import torch

from components.training.state import (
    Averages,
    History,
    random_states,
    seed_process,
    set_random_state,
    unchanged_random_state,
)


def _values(loss: float, norm: float) -> dict[str, torch.Tensor]:
    return {"loss": torch.tensor(loss, requires_grad=True), "grad_norm": torch.tensor([norm])}


def test_means_start_afresh_after_each_reading() -> None:
    averages = Averages()
    averages.add(_values(1.0, 4.0))
    averages.add(_values(2.0, 6.0))
    assert averages.read() == {"loss": 1.5, "grad_norm": 5.0}
    assert averages.read() == {}
    averages.add(_values(7.0, 1.0))
    assert averages.read() == {"loss": 7.0, "grad_norm": 1.0}


def test_skipped_steps_do_not_spoil_the_gradient_norm() -> None:
    averages = Averages()
    averages.add(_values(1.0, math.inf))
    averages.add(_values(2.0, 6.0))
    assert averages.read() == {"loss": 1.5, "grad_norm": 6.0}
    averages.add(_values(1.0, math.nan))
    assert averages.read() == {"loss": 1.0}


def test_goes_on_from_a_saved_state() -> None:
    averages, resumed = Averages(), Averages()
    averages.add(_values(1.0, 4.0))
    resumed.load_state_dict(averages.state_dict(), torch.device("cpu"))
    resumed.add(_values(2.0, 6.0))
    assert resumed.read() == {"loss": 1.5, "grad_norm": 5.0}


def test_names_must_stay_the_same() -> None:
    averages = Averages()
    averages.add(_values(1.0, 4.0))
    with pytest.raises(ValueError, match="grad_norm"):
        averages.add({"loss": torch.tensor(1.0)})


def test_rows_as_csv_with_a_cell_left_empty_where_a_value_is_missing(tmp_path: Path) -> None:
    history = History(
        train=[{"iteration": 2, "loss": 5.0}, {"iteration": 4, "loss": 4.0, "grad_norm": 0.1}],
        val=[{"iteration": 4, "loss": 4.5}],
    )
    train_path, val_path = history.write_csv(tmp_path)
    assert train_path.read_text() == "iteration,loss,grad_norm\n2,5.0,\n4,4.0,0.1\n"
    with open(val_path, newline="") as file:
        assert list(csv.DictReader(file)) == [{"iteration": "4", "loss": "4.5"}]
    assert history.is_validated(4)
    assert not history.is_validated(2)


def test_the_best_validation_is_the_lowest_also_at_zero_and_below() -> None:
    assert History().best_validation is None
    rows = [{"iteration": i, "loss": loss} for i, loss in enumerate((1.0, 0.0, -2.0, -2.0, 3.0))]
    assert History(val=rows).best_validation == {"iteration": 2, "loss": -2.0}
    assert History(val=rows[:2]).best_validation == {"iteration": 1, "loss": 0.0}


CPU = torch.device("cpu")


def test_restores_the_numbers_to_come() -> None:
    states = random_states(CPU)
    expected = torch.rand(4)
    torch.rand(7)
    set_random_state(states, CPU)
    assert torch.equal(torch.rand(4), expected)


def test_draws_inside_leave_no_trace() -> None:
    states = random_states(CPU)
    expected = torch.rand(4)
    set_random_state(states, CPU)
    with unchanged_random_state():
        torch.rand(100)
    assert torch.equal(torch.rand(4), expected)


def test_every_process_draws_its_own_numbers() -> None:
    drawn = set()
    for rank, iteration in ((0, 0), (1, 0), (0, 5), (1, 5), (0, 0)):
        seed_process(3, rank, iteration)
        drawn.add(torch.rand(1).item())
    assert len(drawn) == 4
