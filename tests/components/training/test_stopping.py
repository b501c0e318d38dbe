import os
import signal
import threading

import pytest

from components.training.stopping import Stopped, StopRequest


def test_batches_pass_until_somebody_asks_to_stop(capsys) -> None:
    seen = []

    def consume(number: int) -> None:
        seen.append(number)
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)  # asking again changes nothing

    with StopRequest() as stop, pytest.raises(Stopped):
        list(map(consume, stop.watch(range(5))))
    assert seen == [0, 1, 2]
    assert capsys.readouterr().err.strip() == "SIGTERM: stopping after this iteration"


def test_nobody_asks() -> None:
    with StopRequest() as stop:
        assert list(stop.watch(range(3))) == [0, 1, 2]
        assert not stop


def _dying_loader(asked_to_stop: bool):
    yield 0
    if asked_to_stop:
        os.kill(os.getpid(), signal.SIGTERM)
    raise RuntimeError("a worker has died")


def test_a_loader_that_fails_is_a_stop_only_when_asked() -> None:
    with StopRequest() as stop, pytest.raises(Stopped):
        list(stop.watch(_dying_loader(asked_to_stop=True)))
    with StopRequest() as stop, pytest.raises(RuntimeError, match="a worker has died"):
        list(stop.watch(_dying_loader(asked_to_stop=False)))


def test_works_without_signals_outside_the_main_thread() -> None:
    passed: list[int] = []

    def consume() -> None:
        with StopRequest() as stop:
            passed.extend(stop.watch(range(3)))

    thread = threading.Thread(target=consume)
    thread.start()
    thread.join()
    assert passed == [0, 1, 2]
