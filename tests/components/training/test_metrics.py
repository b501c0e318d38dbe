import io
from collections.abc import Iterator

import pytest
import torch

from components.training import metrics
from components.training.metrics import DataWait, Progress
from components.training.state import History


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(metrics, "time", clock)
    return clock


def test_a_pipe_gets_a_line_every_so_often(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(100, 40, stream) as shown:
        shown.show({"loss": 4.25})
        for _ in range(30):
            clock.now += 1.0
            shown.advance(16)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "iteration 50/100 (50%), 16.0 images/s, 0:00:50 left, loss 4.25"
    assert [line.split("/")[0] for line in lines] == ["iteration 50", "iteration 60", "iteration 70"]
    assert "\r" not in stream.getvalue()


def test_a_pipe_gets_the_last_iteration_too(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(3, 0, stream) as shown:
        for _ in range(3):
            clock.now += 1.0
            shown.advance(16)
    assert stream.getvalue() == "iteration 3/3 (100%), 16.0 images/s, 0:00:00 left\n"


def test_a_terminal_gets_a_bar() -> None:
    stream = Terminal()
    with Progress(10, 5, stream) as shown:
        for _ in range(5):
            shown.advance(16)
    last = stream.getvalue().rstrip().split("\r")[-1]
    assert "100%" in last
    assert "10/10 iterations" in last
    assert "images/s, 0:00:00 left" in last


def test_a_run_without_iterations_shows_nothing() -> None:
    stream = io.StringIO()
    with Progress(10, 10, stream):
        pass
    assert stream.getvalue() == ""


def test_waiting_for_data_is_measured_and_said_once(clock: Clock, capsys) -> None:
    def slow() -> Iterator[int]:
        while True:
            clock.now += 3.0
            yield 0

    wait, batches = DataWait(torch.device("cpu"), "Keep pixels."), slow()
    for expected in (
        "",
        "waiting for data 30% of the time: Keep pixels.\n",
        "",
    ):  # at first the loader starts
        wait.next(batches)
        assert wait.per_second(10.0) == pytest.approx(0.3)
        assert capsys.readouterr().err == expected
    wait.next(iter([0]))
    assert wait.per_second(10.0) == 0.0


def test_the_waiting_of_a_run_counts_by_time() -> None:
    rows = [
        {"iteration": 2, "images_per_second": 10.0, "data_wait_per_second": 0.5},
        {"iteration": 4, "images_per_second": 5.0, "data_wait_per_second": 0.2},
    ]
    assert History(rows).per_second("data_wait_per_second") == pytest.approx((0.5 + 2 * 0.2) / 3)
    assert (
        History(rows).per_second("core_seconds_per_second") is None
    )  # rows of a version that did not measure it
