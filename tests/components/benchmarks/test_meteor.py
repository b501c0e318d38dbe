from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from components.benchmarks import meteor as module
from components.benchmarks.meteor import meteor
from components.benchmarks.metric_interface import NotRun

JavaMaker = Callable[[str], Path]

REFERENCES = {
    "1": ["a red café above a square", "a circle"],
    "2": ["two dogs"],
    "3": ["a cat sits"],
    "4": ["thé"],
}
HYPOTHESES = {"1": ["a red café above a square"], "2": [""], "3": ["a cat"], "4": ["thè"]}


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Another test's child, such as multiprocessing's own helper, does not count."""
    before = set(psutil.Process().children())
    yield
    assert set(psutil.Process().children()) <= before


@pytest.mark.integration
@pytest.mark.usefixtures("real_java")
def test_scores_in_any_locale_and_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Java of itself reads numbers with a decimal comma there, and ASCII alone."""
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Duser.language=de -Duser.country=DE -Dfile.encoding=US-ASCII")
    totals, (scores,) = meteor(REFERENCES, HYPOTHESES)
    assert scores[0] == pytest.approx(1.0)
    assert scores[1] == 0.0
    assert 0.0 < scores[2] < 1.0
    assert scores[3] == 0.0, "accents were lost on the way"
    assert 0.0 < totals[0] < 1.0


@pytest.mark.usefixtures("no_java")
def test_without_java() -> None:
    with pytest.raises(NotRun, match="no java"):
        meteor(REFERENCES, HYPOTHESES)


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.exit('Could not reserve enough space for the heap')",  # before it has read
        "import sys; input(); sys.exit('Could not reserve enough space for the heap')",  # in the middle
    ],
)
def test_a_program_that_dies_says_why(java_that: JavaMaker, code: str) -> None:
    java_that(code)
    with pytest.raises(NotRun, match="failed: Could not reserve enough space"):
        meteor(REFERENCES | {str(n): ["x" * 90_000] for n in range(5, 9)}, HYPOTHESES | {
            str(n): ["y" * 90_000] for n in range(5, 9)
        })  # fmt: skip


def test_a_program_that_never_answers_is_stopped(
    java_that: JavaMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 0.2)
    monkeypatch.setattr(module, "IMAGE_SECONDS", 0.0)
    java_that("import time; time.sleep(600)")
    with pytest.raises(NotRun, match="was stopped after 0 s"):
        meteor(REFERENCES, HYPOTHESES)


def test_a_java_that_cannot_be_started(java_that: JavaMaker) -> None:
    java_that("").write_bytes(b"\x00")
    with pytest.raises(NotRun, match="java cannot be started"):
        meteor(REFERENCES, HYPOTHESES)
