"""``dvc``, looking twenty times a second whether DVC's lock is free, and saying how long it was not.

DVC looks every half second, which adds up where many short stages run side by side.
"""

import sys
import time

import dvc.lock
from dvc.cli import main

from components.core.stage_lock import say_waited

dvc.lock.DEFAULT_TIMEOUT = 0.3  # seconds, six looks of a command that does not wait for ever

_lock = dvc.lock.Lock.lock
_waits: list[float] = []


def _timed_lock(lock: dvc.lock.Lock) -> None:
    started = time.monotonic()
    try:
        _lock(lock)
    finally:
        _waits.append(time.monotonic() - started)


if __name__ == "__main__":
    dvc.lock.Lock.lock = _timed_lock
    try:
        sys.exit(main(sys.argv[1:]))
    finally:
        say_waited(sum(_waits))
