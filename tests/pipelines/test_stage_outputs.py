"""Damaged files in DVC's cache: not handed out, not put over what a stage has just made."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.dvc_internals import read_plan
from pipelines.process import Stop
from pipelines.stage import StageRunner

pytestmark = pytest.mark.integration

DVC_YAML = """
stages:
  one:
    cmd: sh stage.sh
    deps: [stage.sh]
    outs: [out.txt, folder]
"""
SCRIPT = "echo ran >> runs; mkdir -p folder; echo right > out.txt; echo member > folder/a"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    from dvc.repo import Repo

    Repo.init(str(tmp_path), no_scm=True).close()
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "stage.sh").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-m", "dvc", "config", "cache.type", "hardlink,copy"], check=True)
    assert run() == ("ran", [])
    return tmp_path


def run(force=False):
    (stage,) = read_plan().stages
    lines = []
    outcome = StageRunner(Path.cwd(), {}, force, Stop(), max_parallel=1).run(stage, lines.append)
    return outcome.state, [line for line in lines if "damaged" in line or "again" in line]


def damage(path, how):
    Path(path).chmod(0o644)
    Path(path).write_text(how(Path(path).read_text()))
    Path(path).chmod(0o444)


DAMAGES = [
    ("out.txt", lambda text: text + "one line more\n"),
    ("out.txt", lambda text: ""),
    ("out.txt", lambda text: text.swapcase()),
    ("folder/a", lambda text: text.swapcase()),
]


def all_is_right(root):
    return (root / "out.txt").read_text() == "right\n" and (root / "folder/a").read_text() == "member\n"


@pytest.mark.parametrize(("path", "how"), DAMAGES)
def test_a_forced_run_does_not_bring_damage_back(repository, path, how):
    damage(path, how)
    state, lines = run(force=True)
    assert state == "ran"
    assert "damaged in DVC's cache" in lines[0]
    assert lines[-1] == "one runs again"
    assert all_is_right(repository)
    assert len(list((repository / ".dvc/cache/damaged").iterdir())) == 1
    assert run(force=True) == ("ran", [])


@pytest.mark.parametrize(("path", "how"), DAMAGES)
def test_damage_is_not_restored(repository, path, how):
    damage(path, how)
    for out in ("out.txt", "folder/a"):
        (repository / out).unlink()
    (repository / "dvc.lock").unlink()
    runs = len((repository / "runs").read_text().splitlines())
    state, _ = run()
    assert state == "ran"
    assert all_is_right(repository)
    assert len((repository / "runs").read_text().splitlines()) == runs + 1


def test_the_doctor_reads_all_of_it(repository):
    from components.core import paths

    paths.PARAMS.touch()
    command = [sys.executable, "-m", "components.commands.doctor", "--cache"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "none is damaged"), done.stderr
    damage("folder/a", str.swapcase)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "1 of 3 are damaged" in done.stdout
    assert read_plan().pending == ("one",)
    assert run()[0] == "ran"
    assert all_is_right(repository)
