import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from components.training.optimizer import LearningRateSchedule, Lookahead, multiplier


class Quadratic(nn.Module):
    """The golden trace's problem, see lookahead_trace.json."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor([1.0, 2.0, -1.5, 0.75], dtype=torch.float64))
        self.y = nn.Parameter(torch.tensor([[0.2, -0.4]], dtype=torch.float64))

    def forward(self) -> Tensor:
        a, b = self.x.new_tensor([0.5, 1, 2, 4]), self.x.new_tensor([1, -1, 0.5, 2])
        a2, b2 = self.x.new_tensor([[1.5, 0.25]]), self.x.new_tensor([[0.3, -0.7]])
        x_part = (0.5 * a * self.x**2 - b * self.x).sum()
        return x_part + (0.5 * a2 * self.y**2 - b2 * self.y).sum()


def _lookahead(problem: Quadratic) -> Lookahead:
    groups = [
        {"params": [problem.x], "lr": 0.2, "weight_decay": 1e-4},
        {"params": [problem.y], "lr": 0.05, "weight_decay": 0.0},
    ]
    return Lookahead(torch.optim.SGD(groups, momentum=0.9), steps=5, alpha=0.5)


def _schedule(optimizer: Lookahead) -> LearningRateSchedule:
    return LearningRateSchedule(optimizer, multiplier("cosine", 30, warmup_iterations=5))


def _step(problem: Quadratic, optimizer: Lookahead, schedule: LearningRateSchedule) -> float:
    loss = problem()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    return loss.item()


def _same(actual: Tensor, expected: list) -> bool:
    return torch.allclose(actual, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-14)


def test_trace_of_the_reference(shared_dir: Path) -> None:
    trace = json.loads((shared_dir / "golden" / "lookahead_trace.json").read_text())["trace"]
    problem = Quadratic()
    optimizer = _lookahead(problem)
    schedule = _schedule(optimizer)
    assert len(trace) == 30
    for expected in trace:
        lrs = [group["lr"] for group in optimizer.param_groups]
        assert lrs == pytest.approx(expected["lr_used"], rel=1e-12)
        assert _step(problem, optimizer, schedule) == pytest.approx(expected["loss_before"], rel=1e-12)
        assert _same(problem.x.detach(), expected["x"])
        assert _same(problem.y.detach(), expected["y"])
        assert _same(optimizer.slow_weights[0], expected["slow_x"])
        assert optimizer.counter == expected["k_counter"]


@pytest.mark.parametrize("stop_after", [1, 7, 10, 23])
def test_resumes_exactly(stop_after: int) -> None:
    problem, resumed_problem = Quadratic(), Quadratic()
    optimizer = _lookahead(problem)
    schedule = _schedule(optimizer)
    for _ in range(stop_after):
        _step(problem, optimizer, schedule)
    resumed_problem.load_state_dict(problem.state_dict())
    resumed = _lookahead(resumed_problem)
    resumed_schedule = _schedule(resumed)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    resumed_schedule.load_state_dict(schedule.state_dict())
    for _ in range(30 - stop_after):
        _step(problem, optimizer, schedule)
        _step(resumed_problem, resumed, resumed_schedule)
    assert torch.equal(problem.x, resumed_problem.x)
    assert torch.equal(problem.y, resumed_problem.y)
    assert all(map(torch.equal, optimizer.slow_weights, resumed.slow_weights))


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 6},
        {"alpha": 0.4},
        {"counter": 5},
        {"slow_weights": [torch.zeros(4, dtype=torch.float64)]},
        {"slow_weights": [torch.zeros(5), torch.zeros(1, 2)]},
        {"unknown": 1},
    ],
)
def test_refuses_a_state_that_does_not_fit(change: dict) -> None:
    optimizer = _lookahead(Quadratic())
    with pytest.raises(ValueError, match="Lookahead"):
        optimizer.load_state_dict(optimizer.state_dict() | change)


@pytest.mark.parametrize("missing", ["inner", "slow_weights", "counter"])
def test_refuses_a_state_with_a_part_missing(missing: str) -> None:
    optimizer = _lookahead(Quadratic())
    state = optimizer.state_dict()
    del state[missing]
    with pytest.raises(ValueError, match=missing):
        optimizer.load_state_dict(state)


def test_refuses_impossible_settings() -> None:
    inner = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(ValueError, match="steps"):
        Lookahead(inner, steps=0, alpha=0.5)
    with pytest.raises(ValueError, match="alpha"):
        Lookahead(inner, steps=5, alpha=1.5)
