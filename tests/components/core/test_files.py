"""Whole or absent: what stands at a path after success, failure and interruption."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from components.core.files import write_json, write_text, writing

REPOSITORY = Path(__file__).resolve().parents[3]
KILLED = """
import os, signal, sys
from pathlib import Path
from components.core.files import writing
with writing(Path(sys.argv[1])) as temporary:
    temporary.mkdir()
    (temporary / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_success_replaces_file_and_folder(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    write_text(target, "one")
    write_text(target, "zwei")
    assert target.read_text(encoding="utf-8") == "zwei"
    folder = tmp_path / "folder"
    for content in ("a", "b"):
        with writing(folder) as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert [path.name for path in folder.iterdir()] == ["b"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_the_earlier_version_and_no_rest(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "file.txt"
    write_text(target, "before")

    def interrupted() -> None:
        with writing(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert target.read_text(encoding="utf-8") == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_whole_when_removing_the_former_one_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"

    def write(content: str) -> None:
        with writing(folder) as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)

    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt

    write("a")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write("b")
    assert [path.name for path in folder.iterdir()] == ["b"]
    write("c")
    assert list(tmp_path.iterdir()) == [folder]


def test_what_a_killed_process_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    target = tmp_path / "folder[1]"
    done = subprocess.run([sys.executable, "-c", KILLED, str(target)], cwd=REPOSITORY)
    assert done.returncode == -signal.SIGKILL
    (left_behind,) = tmp_path.iterdir()
    living = tmp_path / f".{target.name}.{os.getppid()}.partial"
    living.write_text("being written")
    of_another = tmp_path / left_behind.name.replace("folder", "other")
    of_another.mkdir()
    write_text(target, "whole")
    assert set(tmp_path.iterdir()) == {target, living, of_another}


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), writing(tmp_path / "file"):
        pass


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []
