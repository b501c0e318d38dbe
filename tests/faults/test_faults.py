"""The rows of the table as tests, by hand and weekly: ``pytest -m slow tests/faults``."""

import sys
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.faults import made
from tests.faults.__main__ import describe, try_all
from tests.faults.judge import End, undisturbed, verdict
from tests.faults.table import Fault, table

FAULTS = table()


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.kind}: {fault.name}")
def test_fault(fault: Fault) -> None:
    ends = fault.trial()
    assert verdict(ends, fault.allowed) == "survived", describe(fault, ends)


@pytest.mark.slow
def test_each_operation_of_a_writer_is_disturbed() -> None:
    counted = {subject.name: undisturbed(subject)[1] for subject, _ in made.WRITERS}
    assert counted == {subject.name: operations for subject, operations in made.WRITERS}


def test_there_are_a_thousand_and_each_has_a_name() -> None:
    assert len({(fault.kind, fault.name) for fault in FAULTS}) == len(FAULTS) >= 1000


def test_a_campaign_goes_on_where_it_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tried: list[str] = []

    def attempt(state: str) -> list[End]:
        tried.append(state)
        return [End(state, "words")]

    faults = [Fault("kind", state, (("same",),), partial(attempt, state)) for state in ("same", "wrong")]
    found = try_all(faults, tmp_path / "results")
    assert found == {("kind", "same"): "survived", ("kind", "wrong"): "silently wrong"}
    assert try_all(faults, tmp_path / "results") == found
    assert tried == ["same", "wrong", "wrong"]
    assert capsys.readouterr().out.startswith("silently wrong: kind, wrong: wrong: words")
