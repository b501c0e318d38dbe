"""Processes that train together end with the process that started them.

``torchrun`` gives each a session of its own, so whoever ends it and its process group does not reach them:
if it is killed outright they would train on, and write, beside the next run.
"""

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> None:
    """Have the system send this process SIGTERM once its parent has died; on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
