"""Fixtures for all tests."""

import os
import signal
from pathlib import Path

import dvc.logger  # noqa: F401  # its log handlers keep the stream they find at import: not one test's capture
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# A shell's background job ignores interrupts and hands that down; tests that interrupt need them.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The real-data pack beside the checkout (or at ``VIRTEX_SHARED``); skips where it is absent."""
    folder = Path(os.environ.get("VIRTEX_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"no real-data pack at {folder} (set VIRTEX_SHARED)")
    return folder
