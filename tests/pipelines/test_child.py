"""Children in groups of their own: output, stopping, deadlines."""

import contextlib
import os
import signal
import sys
import threading

import psutil

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


QUICK_STOP = ((signal.SIGINT, 0.3), (signal.SIGTERM, 0.3), (signal.SIGKILL, 5.0))


def run(
    script, folder, cancelled=lambda: False, on_line=None, timeout_seconds=None, stop_sequence=QUICK_STOP
):
    groups, lines = [], []
    end = run_child(
        [sys.executable, "-c", script],
        environment=os.environ,
        folder=folder,
        on_start=groups.append,
        on_line=on_line or lines.append,
        cancelled=cancelled,
        timeout_seconds=timeout_seconds,
        stop_sequence=stop_sequence,
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


def test_the_stubborn_are_killed_with_their_children(tmp_path):
    started = threading.Event()
    end, _ = run(STUBBORN, tmp_path, cancelled=started.is_set, on_line=lambda line: started.set())
    assert end.stopped_by == "cancel"
    assert end.returncode == -signal.SIGTERM


def test_deadline(tmp_path):
    end, _ = run("import time; time.sleep(60)", tmp_path, timeout_seconds=0.5)
    assert end.stopped_by == "deadline"


def test_grandchildren_do_not_outlive_the_child(tmp_path, monkeypatch):
    monkeypatch.setattr(child, "_DRAIN_SECONDS", 0.2)
    script = "import subprocess, sys; subprocess.Popen(['sleep', '60']); print('over')"
    end, lines = run(script, tmp_path)
    assert end.returncode == 0
    assert lines == ["over"]


def test_whoever_insists_does_not_wait(tmp_path):
    requests = []
    end, _ = run(
        STUBBORN,
        tmp_path,
        cancelled=lambda: len(requests),
        on_line=lambda line: requests.extend([1, 2, 3]),
        stop_sequence=[(number, 50.0) for number, _ in QUICK_STOP],
    )
    assert end.stopped_by == "cancel"
    assert end.returncode in (-signal.SIGTERM, -signal.SIGKILL)


def test_killing_reaches_those_that_left_the_group(tmp_path):
    script = (
        "import signal, subprocess, time\n"
        "for number in (2, 15): signal.signal(number, signal.SIG_IGN)\n"
        "left = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "print(left.pid, flush=True)\n"
        "time.sleep(60)"
    )
    pids = []
    end, _ = run(script, tmp_path, cancelled=lambda: bool(pids), on_line=lambda line: pids.append(int(line)))
    assert end.returncode == -signal.SIGKILL
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.wait_procs([psutil.Process(pids[0])], timeout=5)
        assert psutil.Process(pids[0]).status() == psutil.STATUS_ZOMBIE


def test_files_are_kept_open(tmp_path):
    reading, writing = os.pipe()
    groups = []
    run_child(
        [sys.executable, "-c", f"import os; os.write({writing}, b'here')"],
        environment=os.environ,
        folder=tmp_path,
        on_start=groups.append,
        on_line=print,
        cancelled=lambda: 0,
        keep_open=[writing],
    )
    assert os.read(reading, 10) == b"here"
    os.close(reading)
    os.close(writing)
