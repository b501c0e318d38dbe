"""How a run ends, from what became of its stages."""

import pytest

from pipelines.graph import Plan, Stage
from pipelines.run import how_it_ended
from pipelines.stage import Outcome

PLAN = Plan((Stage("one", (), ()), Stage("two", ("one",), ())), frozenset())


@pytest.mark.parametrize(
    ("states", "is_stopped", "end"),
    [
        ({"one": "unchanged", "two": "ran"}, False, "completed"),
        ({"one": "ran", "two": "restored"}, True, "completed"),
        ({"one": "not run", "two": "ran"}, False, "completed"),
        ({"one": "failed"}, False, "failed"),
        ({"one": "failed", "two": "stopped"}, True, "failed"),
        ({"one": "ran", "two": "stopped"}, True, "cancelled"),
        ({"one": "stopped"}, True, "cancelled"),
        ({"one": "ran"}, False, "failed"),
        ({}, False, "failed"),
    ],
)
def test_only_good_ends_of_all_stages_complete_a_run(states, is_stopped, end):
    outcomes = {name: Outcome(name, state) for name, state in states.items()}
    assert how_it_ended(PLAN, outcomes, is_stopped) == end
