"""Bounds of what comes over the network."""

import time

import pytest

from components.core import http
from components.core.http import Pace, PaceError, begun_within


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(http.time, "monotonic", lambda: now[0])
    return now


def test_a_byte_every_half_second_is_given_up(clock):
    slow = Pace(window_seconds=60)
    for _ in range(119):
        clock[0] += 0.5
        slow.came(1)
    clock[0] += 0.5
    with pytest.raises(PaceError, match="too slow: 120 bytes in 60 seconds"):
        slow.came(1)


def test_a_slow_line_and_a_pause_are_waited_for(clock):
    steady = Pace(window_seconds=60)
    for _ in range(1000):
        clock[0] += 1
        steady.came(1100)
    clock[0] += 50
    steady.came(60_000)


def test_no_more_than_may():
    bounded = Pace(most_bytes=10)
    bounded.came(10)
    with pytest.raises(PaceError, match="more than 10 bytes"):
        bounded.came(1)


def test_an_answer_that_does_not_begin():
    with pytest.raises(PaceError, match="no answer within 0 seconds"):
        begun_within(0.05, lambda: time.sleep(600))
    assert begun_within(60, lambda: 7) == 7
    with pytest.raises(KeyError):
        begun_within(60, lambda: {}[1])
