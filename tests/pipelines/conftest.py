"""A workspace with parameters and one preset, as the command line finds it."""

import shutil
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def small_workspace(tmp_path, monkeypatch):
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "tiny.yaml").write_text("# Smaller.\ntokenize:\n  vocab_size: 123\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path
