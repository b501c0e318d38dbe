import json
from pathlib import Path

import pytest
import torch

from components import params
from components.training.optimizer import LearningRateSchedule, multiplier


@pytest.fixture(scope="module")
def tables(shared_dir: Path) -> dict[str, list[float]]:
    return json.loads((shared_dir / "golden" / "lr_tables.json").read_text())["tables"]


@pytest.mark.parametrize("table", ["none", "multistep", "linear", "cosine", "cosine_warmup0"])
def test_tables_of_the_reference(tables, schedule_params: params.Schedule, table: str) -> None:
    changes = {"name": table.removesuffix("_warmup0")}
    if table.endswith("_warmup0"):
        changes["warmup_iterations"] = 0
    factor = multiplier(**(schedule_params.model_dump() | changes))
    assert len(tables[table]) > schedule_params.iterations
    values = [factor(iteration) for iteration in range(len(tables[table]))]
    assert values == pytest.approx(tables[table], rel=1e-9, abs=1e-15)


def _optimizer() -> torch.optim.SGD:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    return torch.optim.SGD([{"params": weights[:1], "lr": 0.2}, {"params": weights[1:], "lr": 0.001}])


def test_applies_to_each_group_and_resumes(schedule_params: params.Schedule) -> None:
    factor = multiplier(**schedule_params.model_dump())
    optimizer = _optimizer()
    schedule = LearningRateSchedule(optimizer, factor)
    for iteration in range(25):
        expected = [0.2 * factor(iteration), 0.001 * factor(iteration)]
        assert [group["lr"] for group in optimizer.param_groups] == expected
        schedule.step()

    resumed_optimizer = _optimizer()
    resumed = LearningRateSchedule(resumed_optimizer, factor)
    resumed.load_state_dict(schedule.state_dict())
    assert [group["lr"] for group in resumed_optimizer.param_groups] == [0.2 * factor(25), 0.001 * factor(25)]


def test_refuses_the_state_of_other_learning_rates(schedule_params: params.Schedule) -> None:
    schedule = LearningRateSchedule(_optimizer(), multiplier(**schedule_params.model_dump()))
    state = schedule.state_dict() | {"base_lrs": [0.3, 0.001]}
    with pytest.raises(ValueError, match=r"0\.3"):
        schedule.load_state_dict(state)
