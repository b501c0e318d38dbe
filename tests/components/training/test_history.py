import csv
from pathlib import Path

from components.training.history import History


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
