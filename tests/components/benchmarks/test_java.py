from collections.abc import Callable
from pathlib import Path

import pytest

from components.benchmarks.java import find_java, java_version, last_words
from components.benchmarks.metric_interface import NotRun

JavaMaker = Callable[[str], Path]


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ('openjdk version "1.8.0_412"', 8),
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('NOTE: Picked up JAVA_TOOL_OPTIONS: -Dx=y\\njava version "21" 2023-09-19 LTS', 21),
    ],
)
def test_versions(java_that: JavaMaker, says: str, version: int) -> None:
    program = java_that(f"import sys; sys.stderr.write('{says}')")
    assert find_java() == str(program)
    assert java_version(find_java()) == version


def test_a_java_that_does_not_run_is_no_java(java_that: JavaMaker, tmp_path: Path) -> None:
    java_that("import sys; sys.exit('no runtime present, request install')")
    with pytest.raises(NotRun, match="says: no runtime present"):
        java_version(find_java())
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x00")
    broken.chmod(0o755)
    with pytest.raises(NotRun, match="java does not run"):
        java_version(str(broken))


@pytest.mark.usefixtures("no_java")
def test_java_home_decides() -> None:
    with pytest.raises(NotRun, match="no java in JAVA_HOME; install"):
        find_java()


def test_no_java_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotRun, match="no java on the PATH; install"):
        find_java()


@pytest.mark.usefixtures("real_java")
def test_this_machines_java() -> None:
    assert java_version(find_java()) >= 8


def test_complaints_are_short() -> None:
    assert last_words("Exception: a\n\tat x.y\n  ... 3 more\nCaused by: b\n") == "Exception: a | Caused by: b"
    assert last_words("") == "nothing"
    assert len(last_words("x" * 1000)) == 300
