"""Signals and cancellations as one flag."""

import os
import signal
import threading

import pytest

from components.signals import ENDING
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
