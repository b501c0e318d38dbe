"""The rows of the table as tests, by hand and weekly: ``pytest -m slow tests/faults``."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.faults import made
from tests.faults.__main__ import describe
from tests.faults.judge import undisturbed, verdict
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
