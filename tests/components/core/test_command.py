"""How a command's process ends."""

import errno
import json
import os
import subprocess
import sys

import pytest

from components.commands import run_command
from components.core.errors import FREES_SPACE, InputError


def bad_input() -> int:
    raise InputError("x.jpg: no image")


def fails_with(number: int, filename: str | None = None):
    def main() -> int:
        raise OSError(number, os.strerror(number), filename)

    return main


def stopped() -> int:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("main", "status", "message"),
    [
        (lambda: 0, 0, ""),
        (bad_input, 2, "virtex: error: x.jpg: no image\n"),
        (stopped, 130, ""),
        (
            fails_with(errno.ENOTDIR, "a/b"),
            2,
            "virtex: error: a/b: Not a directory; make it usable, or name another place\n",
        ),
        (
            fails_with(errno.ENOSPC, "c"),
            2,
            f"virtex: error: the disk is full while writing c; {FREES_SPACE}\n",
        ),
    ],
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


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ECONNREFUSED, errno.EACCES])
def test_other_failures_are_defects_and_keep_their_traceback(number):
    with pytest.raises(OSError, match=os.strerror(number)):
        run_command(fails_with(number))


def test_names_of_any_bytes_are_printed_and_in_json_come_back():
    code = (
        "import json; from components.commands import run_command; name = 'caf\\udce9.jpg'; "
        "run_command(lambda: print(json.dumps([name, 'é'], ensure_ascii=False)) or 0)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(found.stdout.decode()) == ["caf\udce9.jpg", "é"]
