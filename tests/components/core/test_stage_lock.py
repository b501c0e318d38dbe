"""Two processes of one stage: the second waits for the first, or stops it if its DVC is gone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from components.core.stage_lock import WAITED
from pipelines.output import StageOutput

REPOSITORY = Path(__file__).resolve().parents[3]
STAGE = """
import sys, time
from pathlib import Path
from components.entry import run_stage

def main(run):
    print("at work", flush=True)
    Path("working").write_text(str(__import__("os").getpid()))
    while not Path("finish").exists():
        time.sleep(0.05)

sys.argv = ["stage"]
run_stage("train", (), main, is_recorded=False)
"""
DVC = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1], shell=True).returncode)"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    Path("stage.py").write_text(STAGE)
    Path("dvc").write_text(DVC)  # as DVC does: a shell that runs the command
    yield
    Path("finish").touch()


def start(*, by_dvc=False):
    command = [sys.executable, "stage.py"]
    if by_dvc:
        command = [sys.executable, "dvc", f"{sys.executable} stage.py; exit $?"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition):
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_the_second_waits_and_says_so():
    first = start()
    wait_for(Path("working").exists)
    second = start()
    assert second.stdout.readline() == f"train: waiting for process {first.pid}, which runs the same stage\n"
    Path("finish").touch()
    assert first.wait(60) == 0
    waited, at_work = second.stdout.read().splitlines()
    assert at_work == "at work"
    output = StageOutput("train")
    assert not output.feed(waited)
    assert output.waited_seconds > 0
    assert second.wait(60) == 0


def test_a_stage_that_a_killed_dvc_left_behind_is_stopped():
    first = start(by_dvc=True)
    wait_for(Path("working").exists)
    orphan = int(Path("working").read_text())
    os.kill(first.pid, signal.SIGKILL)
    first.wait(60)
    assert psutil.pid_exists(orphan)
    Path("working").unlink()
    second = start(by_dvc=True)
    line = f"train: stopping orphaned process {orphan}, whose DVC has exited\n"
    assert second.stdout.readline() == line
    assert second.stdout.readline().startswith(WAITED)
    assert second.stdout.readline() == "at work\n"
    assert not psutil.pid_exists(orphan)
    Path("finish").touch()
    assert second.wait(60) == 0


def test_a_killed_stage_holds_nothing():
    first = start()
    wait_for(Path("working").exists)
    first.kill()
    first.wait(60)
    Path("finish").touch()
    second = start()
    assert second.stdout.read() == "at work\n"
    assert second.wait(60) == 0
