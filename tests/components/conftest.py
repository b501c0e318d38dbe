"""Golden values, for the rooms that must reproduce them."""

import functools
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def golden_dir(shared_dir: Path) -> Path:
    return shared_dir / "golden"


@pytest.fixture(scope="session")
def golden_fill(golden_dir: Path) -> ModuleType:
    """The module that states the filling rule and holds the golden batches."""
    spec = importlib.util.spec_from_file_location("golden_fill", golden_dir / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.u = functools.cache(module.u)  # type: ignore[attr-defined]  # the same weights again and again
    return module
