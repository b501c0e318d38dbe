import pytest
import torch

from components.bench.device import IdleWatch, Interval, uncovered


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([(0, 10)], 0.0),
        ([(0, 4), (6, 10)], 0.2),
        ([(6, 10), (0, 4)], 0.2),
        ([(0, 8), (2, 4), (3, 10)], 0.0),
        ([(0, 2), (1, 2), (8, 10), (9, 10)], 0.6),
        ([], 1.0),
    ],
)
def test_idle_is_what_no_kernel_covers(intervals: list[Interval], expected: float) -> None:
    assert uncovered(intervals) == pytest.approx(expected)


def test_a_cpu_has_no_idle_share() -> None:
    with IdleWatch(torch.device("cpu")) as watch:
        torch.ones(2).sum()
    assert watch.idle_share is None


@pytest.mark.gpu
def test_a_gpu_that_is_given_little_is_idle() -> None:
    device = torch.device("cuda")
    weights = torch.randn(4096, 4096, device=device)
    with IdleWatch(device) as busy:
        for _ in range(20):
            weights @ weights
    with IdleWatch(device) as idle:
        for _ in range(20):
            weights[:8, :8].sum().item()
    assert busy.idle_share is not None
    assert idle.idle_share is not None
    assert busy.idle_share < idle.idle_share
