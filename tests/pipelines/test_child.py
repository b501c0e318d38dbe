"""Children in groups of their own: output, stopping, deadlines."""

import os
import signal
import sys
import threading

import pytest

from pipelines import child
from pipelines.child import group_processes, run_child

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
deaf = "import signal, time; signal.signal(2, signal.SIG_IGN); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", deaf])
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def quick_stop(monkeypatch):
    sequence = ((signal.SIGINT, 0.3), (signal.SIGTERM, 0.3), (signal.SIGKILL, 5.0))
    monkeypatch.setattr(child.GroupStopper.__init__, "__defaults__", (sequence,))


def run(script, folder, cancelled=lambda: False, on_line=None, timeout_seconds=None):
    groups, lines = [], []
    end = run_child(
        [sys.executable, "-c", script],
        environment=os.environ,
        folder=folder,
        on_start=groups.append,
        on_line=on_line or lines.append,
        cancelled=cancelled,
        timeout_seconds=timeout_seconds,
    )
    assert not group_processes(groups[0])
    return end, lines


def test_output_and_return_code(tmp_path):
    script = "import sys, os; print(os.getcwd()); print('b', file=sys.stderr); sys.exit(3)"
    end, lines = run(script, tmp_path)
    assert end.returncode == 3
    assert end.stopped_by is None
    assert sorted(lines) == sorted([str(tmp_path), "b"])


def test_sigint_is_tried_first(tmp_path):
    started = threading.Event()
    script = (
        "import time\nprint('ready', flush=True)\n"
        "try: time.sleep(60)\nexcept KeyboardInterrupt: print('bye', flush=True); raise SystemExit(130)"
    )
    lines = []

    def on_line(line):
        lines.append(line)
        started.set()

    end, _ = run(script, tmp_path, cancelled=started.is_set, on_line=on_line)
    assert end.stopped_by == "cancel"
    assert end.returncode == 130
    assert lines == ["ready", "bye"]


def test_the_stubborn_are_killed_with_their_children(tmp_path, quick_stop):
    started = threading.Event()
    end, _ = run(STUBBORN, tmp_path, cancelled=started.is_set, on_line=lambda line: started.set())
    assert end.stopped_by == "cancel"
    assert end.returncode == -signal.SIGTERM


def test_deadline(tmp_path, quick_stop):
    end, _ = run("import time; time.sleep(60)", tmp_path, timeout_seconds=0.5)
    assert end.stopped_by == "deadline"


def test_grandchildren_do_not_outlive_the_child(tmp_path, monkeypatch):
    monkeypatch.setattr(child, "_DRAIN_SECONDS", 0.2)
    script = "import subprocess, sys; subprocess.Popen(['sleep', '60']); print('over')"
    end, lines = run(script, tmp_path)
    assert end.returncode == 0
    assert lines == ["over"]
