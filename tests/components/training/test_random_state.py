import torch

from components.training.random_state import (
    random_states,
    seed_process,
    set_random_state,
    unchanged_random_state,
)

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
