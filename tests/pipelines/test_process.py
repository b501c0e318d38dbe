"""Child processes in groups of their own, and the flag that stops them."""

import contextlib
import json
import os
import signal
import sys
import threading
import time

import psutil
import pytest

from components.core.process import ENDING, is_alive
from pipelines import process
from pipelines.process import Stop, group_processes, run_child, stop_on_signals, stop_when

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
    monkeypatch.setattr(process, "_DRAIN_SECONDS", 0.2)
    script = "import subprocess, sys; subprocess.Popen(['sleep', '60']); print('over')"
    end, lines = run(script, tmp_path)
    assert end.returncode == 0
    assert lines == ["over"]


def test_whoever_forces_it_does_not_wait(tmp_path):
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


@pytest.mark.parametrize("number", ENDING)
def test_signals_set_the_flag_and_handlers_come_back(capsys, number):
    before = signal.getsignal(number)
    stop = Stop()
    with stop_on_signals(stop):
        os.kill(os.getpid(), number)
        assert stop.wait(5)
    assert signal.getsignal(number) is before
    assert "Stopping" in capsys.readouterr().out


def test_further_interrupts_force_the_end(capsys):
    stop = Stop()
    with stop_on_signals(stop):
        for number, requests in ((signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 2)):
            os.kill(os.getpid(), number)
            assert stop.wait(5)
            assert stop.requests == requests
    assert capsys.readouterr().out.count("Stopping") == 1


def test_what_was_asked_before_is_not_forgotten(capsys):
    outer, inner = Stop(), Stop()
    with stop_on_signals(outer):
        with stop_on_signals(inner):
            assert not inner.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert outer.wait(5)
        with stop_on_signals(inner):
            assert inner.is_set()


def test_other_threads_install_nothing():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with stop_on_signals(Stop()):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_asked_until_true_and_errors_do_not_count():
    answers = iter([False, OSError(), True])

    def asked():
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    stop = Stop()
    with stop_when(asked, stop, every_seconds=0.01):
        assert stop.wait(5)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, new_workspace):
    text = "stages:\n  last:\n    cmd: python stage.py last source.txt\n    deps: [source.txt]\n"
    with new_workspace(
        tmp_path_factory.mktemp("workspace"), text + "    outs: [outputs/last/out.txt]\n", has_server=False
    ) as workspace:
        yield workspace


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_a_run_leaves_nothing_behind(workspace, number):
    """A closed terminal, and Ctrl-backslash, end a run as SIGTERM does."""
    process = workspace.start_and_wait_for_sleep()
    marks = json.loads(workspace.text(".virtex/servers.json"))
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 130, output
    assert workspace.stage_processes() == []
    assert [run.info.status for run in workspace.runs()[:2]] == ["KILLED", "KILLED"]
    limit = time.monotonic() + 60
    while any(map(is_alive, marks)):
        assert time.monotonic() < limit
        time.sleep(0.1)
