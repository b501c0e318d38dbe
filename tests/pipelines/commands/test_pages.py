"""``virtex ui``."""

import contextlib
import os
import signal
from types import SimpleNamespace

import pytest

from components.core.process import ENDING
from pipelines import cli
from pipelines.commands import pages
from pipelines.servers import Pages, RunningUi


@pytest.fixture
def signals():
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def started(small_workspace, monkeypatch, signals):
    """Pages without servers; a list of what has been stopped."""
    stopped = []

    @contextlib.contextmanager
    def fake_servers(*_):
        try:
            yield Pages({"MLflow": "http://127.0.0.1:1"}, ["Port 5000 is taken."])
        finally:
            if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
                for number in ENDING:
                    os.kill(os.getpid(), number)
            stopped.append(True)

    monkeypatch.setattr(pages, "servers", fake_servers)
    monkeypatch.setattr(pages, "use_workspace_server", lambda root: None)
    return stopped


@pytest.mark.parametrize("number", ENDING)
def test_ui_stops_its_servers_however_often_it_is_interrupted(started, monkeypatch, capsys, number):
    # of this module alone: threads that other tests left behind sleep as well
    monkeypatch.setattr(pages, "time", SimpleNamespace(sleep=lambda _: os.kill(os.getpid(), number)))
    assert cli.main(["ui"]) == 130
    assert started
    output = capsys.readouterr().out
    first, after = (
        output.index("MLflow   http://127.0.0.1:1/#/experiments/"),
        output.index("Port 5000 is taken.\n"),
    )
    assert first < after
    assert "viewStateShareKey=virtex\n" in output[first:after]


def test_a_server_that_dies_ends_the_command(started, monkeypatch, capsys):
    monkeypatch.setattr(Pages, "ended", lambda pages: "the MLflow server has ended")
    assert cli.main(["ui"]) == 1
    assert started
    assert capsys.readouterr().err == "virtex: error: the MLflow server has ended\n"


def test_a_second_ui_says_where_the_first_one_is(started, monkeypatch, capsys):
    running = RunningUi(7, {"MLflow": "http://127.0.0.1:1", "Prefect": "http://127.0.0.1:2"}, None)
    monkeypatch.setattr(pages, "running_ui", lambda root: running)
    assert cli.main(["ui"]) == 0
    assert not started
    output = capsys.readouterr().out
    assert "Prefect  http://127.0.0.1:2" in output
    assert "(process 7)" in output
