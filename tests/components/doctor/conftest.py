"""A workspace with the shipped parameters, and changed ones."""

import shutil
from pathlib import Path

import pytest

from components import params

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    shutil.copytree(REPOSITORY / "presets", tmp_path / "presets")
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "VIRTEX_DEVICE", "VIRTEX_NUM_WORKERS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def sections(workspace):
    """Call it with ``section.key=value`` overrides and, by name, a preset; gives the sections."""

    def changed(*overrides: str, preset: str | None = None):
        params.overlay(preset, overrides)
        return params.check_params()

    return changed
