"""Signals and cancellations as one flag."""

import json
import os
import signal
import threading
import time

import pytest

from components.core.process import ENDING, is_alive
from pipelines.stopping import Stop, stop_on_signals, stop_when


@pytest.mark.parametrize("number", ENDING)
def test_signals_set_the_flag_and_handlers_come_back(capsys, number):
    before = signal.getsignal(number)
    stop = Stop()
    with stop_on_signals(stop):
        os.kill(os.getpid(), number)
        assert stop.wait(5)
    assert signal.getsignal(number) is before
    assert "Stopping" in capsys.readouterr().out


def test_further_interrupts_insist(capsys):
    stop = Stop()
    with stop_on_signals(stop):
        for number, requests in ((signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 2)):
            os.kill(os.getpid(), number)
            assert stop.wait(5)
            assert stop.requests == requests
    assert capsys.readouterr().out.count("Stopping") == 1


def test_what_was_asked_before_is_not_forgotten(capsys):
    outer, inner = Stop(), Stop()
    with stop_on_signals(outer):
        with stop_on_signals(inner):
            assert not inner.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert outer.wait(5)
        with stop_on_signals(inner):
            assert inner.is_set()


def test_other_threads_install_nothing():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with stop_on_signals(Stop()):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_asked_until_true_and_errors_do_not_count():
    answers = iter([False, OSError(), True])

    def asked():
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    stop = Stop()
    with stop_when(asked, stop, every_seconds=0.01):
        assert stop.wait(5)


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_a_run_leaves_nothing_behind(tmp_path, new_workspace, number):
    """A closed terminal, and Ctrl-backslash, end a run as SIGTERM does."""
    text = "stages:\n  last:\n    cmd: python stage.py last source.txt\n    deps: [source.txt]\n"
    with new_workspace(tmp_path, text + "    outs: [outputs/last/out.txt]\n") as workspace:
        process = workspace.start_and_wait_for_sleep(PREFECT_API_URL="")
        marks = json.loads(workspace.text(".virtex/servers.json"))
        os.kill(process.pid, number)
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 130, output
        assert workspace.stage_processes() == []
        assert [run.info.status for run in workspace.runs()] == ["KILLED", "KILLED"]
        limit = time.monotonic() + 60
        while any(map(is_alive, marks)):
            assert time.monotonic() < limit
            time.sleep(0.1)
