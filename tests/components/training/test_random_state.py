import torch

from components.training.random_state import random_state, set_random_state, unchanged_random_state


def test_restores_the_numbers_to_come() -> None:
    state = random_state()
    expected = torch.rand(4)
    torch.rand(7)
    set_random_state(state)
    assert torch.equal(torch.rand(4), expected)


def test_draws_inside_leave_no_trace() -> None:
    state = random_state()
    expected = torch.rand(4)
    set_random_state(state)
    with unchanged_random_state():
        torch.rand(100)
    assert torch.equal(torch.rand(4), expected)
