"""How a command's process ends."""

import subprocess
import sys

import pytest

from components.commands import run_command
from components.errors import InputError


def bad_input() -> int:
    raise InputError("x.jpg: no image")


def stopped() -> int:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("main", "status", "message"),
    [(lambda: 0, 0, ""), (bad_input, 2, "virtex: error: x.jpg: no image\n"), (stopped, 130, "")],
)
def test_exit_status(capsys, main, status, message):
    with pytest.raises(SystemExit) as end:
        run_command(main)
    assert end.value.code == status
    assert capsys.readouterr().err == message


def test_a_reader_that_went_away():
    code = "from components.commands import run_command; run_command(lambda: print('x' * 1_000_000) or 0)"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
