"""Stand-ins for Java."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

JavaMaker = Callable[[str], Path]


@pytest.fixture
def no_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))


@pytest.fixture
def java_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JavaMaker:
    """Makes a program of this Python code the machine's only ``java``."""

    def make(code: str) -> Path:
        program = tmp_path / "home" / "bin" / "java"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!{sys.executable}\n{code}\n", encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
        return program

    return make
