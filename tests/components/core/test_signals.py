"""A terminal that closes, before and after."""

import os
import pty
import signal
import subprocess
import sys

import pytest

from components.core.signals import ENDING

PROGRAM = """
import os, sys, time
from components.core.signals import handle_ending, ignore_ending
def end(number, frame):
    ignore_ending()
    for other in (1, 2, 3, 15):
        os.kill(os.getpid(), other)
    print("cleaning up", flush=True)
    open(sys.argv[1], "w").write(str(number))
    raise SystemExit(7)
handle_ending(end)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", ENDING)
def test_each_signal_is_handled_once(tmp_path, number):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "seen")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(60) == 7
    assert (tmp_path / "seen").read_text() == str(int(number))


def test_a_closed_terminal_does_not_keep_it_from_cleaning_up(tmp_path):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "seen")]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=_own_terminal
    )
    os.close(theirs)
    assert os.read(ours, 100).startswith(b"ready")
    os.close(ours)
    assert process.wait(60) == 7
    assert (tmp_path / "seen").read_text() == str(int(signal.SIGHUP))


def test_nohup_is_respected(tmp_path):
    program = "import signal; from components.core.signals import handle_ending as h; h(print); "
    program += "print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)"
    command = ["nohup", sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).stdout == "True\n"


def _own_terminal():
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
