"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The real-data pack beside the checkout (or at ``VIRTEX_SHARED``); skips where it is absent."""
    folder = Path(os.environ.get("VIRTEX_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"no real-data pack at {folder} (set VIRTEX_SHARED)")
    return folder
