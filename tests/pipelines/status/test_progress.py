"""How far a run is."""

from concurrent.futures import wait

import pytest

from pipelines.graph import Plan, Stage
from pipelines.status import text
from pipelines.status.text import Progress


def plan_of(**upstream: tuple[str, ...]) -> Plan:
    return Plan(tuple(Stage(name, above, ()) for name, above in upstream.items()), frozenset())


PLAN = plan_of(sources=(), data=("sources",), a=("data",), b=("data",), c=("data",), last=("a", "b", "c"))


@pytest.mark.parametrize(
    ("done", "at_a_time", "expected"),
    [
        ((), 1, "0 of 5 stages, about 6 min left"),  # 60 + 3 * 80 + 40
        ((), 4, "0 of 5 stages, about 3 min left"),  # 60 + 80 + 40: the longest way
        (("data", "a"), 2, "2 of 5 stages, about 2 min left"),  # 80 + 40 after each other
        (("data", "a", "b", "c"), 2, "4 of 5 stages, about 40 s left"),
        (("data", "a", "b", "c", "last"), 2, "5 of 5 stages"),
    ],
)
def test_stages_and_time(monkeypatch, done, at_a_time, expected):
    seconds = {"data": 60.0, "a": 80.0, "b": 80.0, "c": 80.0, "last": 40.0}
    monkeypatch.setattr(text, "_known_seconds", lambda: seconds)
    told = Progress(PLAN, {*seconds}, at_a_time, has_record=True)
    wait([told._seconds])
    assert told.line({"sources", *done}) == expected


def _away():
    raise OSError("no answer")


@pytest.mark.parametrize("known", [lambda: {"a": 1.0}, _away])
def test_without_the_time_of_a_stage_none_is_told(monkeypatch, known):
    monkeypatch.setattr(text, "_known_seconds", known)
    told = Progress(PLAN, {"a", "b"}, 2, has_record=True)
    wait([told._seconds])
    assert told.line({}) == "0 of 2 stages"
    assert told.line({"b"}) == ("1 of 2 stages, about 1 s left" if known is not _away else "1 of 2 stages")
