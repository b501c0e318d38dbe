"""Signals, proxies, garbage collection and memory of a process."""

import json
import os
import pty
import signal
import subprocess
import sys

import pytest

from components.core.process import ENDING

ENDING_PROGRAM = """
import os, sys, time
from components.core.process import handle_ending, ignore_ending
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
    command = [sys.executable, "-c", ENDING_PROGRAM, str(tmp_path / "seen")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(60) == 7
    assert (tmp_path / "seen").read_text() == str(int(number))


def test_a_closed_terminal_does_not_keep_it_from_cleaning_up(tmp_path):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", ENDING_PROGRAM, str(tmp_path / "seen")]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=_own_terminal
    )
    os.close(theirs)
    assert os.read(ours, 100).startswith(b"ready")
    os.close(ours)
    assert process.wait(60) == 7
    assert (tmp_path / "seen").read_text() == str(int(signal.SIGHUP))


def test_nohup_is_respected(tmp_path):
    program = "import signal; from components.core.process import handle_ending as h; h(print); "
    program += "print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)"
    command = ["nohup", sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).stdout == "True\n"


def _own_terminal():
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


PROXY_PROGRAM = """
import json, os, urllib.request
import components
from httpx._utils import get_environment_proxies
from requests.utils import should_bypass_proxies
print(json.dumps([
    os.environ["NO_PROXY"] == os.environ["no_proxy"] and os.environ["no_proxy"],
    [bool(urllib.request.proxy_bypass(f"{name}:4200")) for name in ("127.0.0.1", "localhost")],
    [should_bypass_proxies(f"http://{name}:1/", None) for name in ("127.0.0.1", "localhost")],
    [get_environment_proxies().get(f"all://{name}", 0) for name in ("127.0.0.1", "localhost")],
    should_bypass_proxies("http://example.org/", None),
]))
"""


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, "localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "a.org, .b.org"}, "a.org,.b.org,localhost,127.0.0.1,::1"),
        ({"no_proxy": "localhost", "NO_PROXY": "a.org"}, "a.org,localhost,127.0.0.1,::1"),
    ],
)
def test_loopback_is_asked_directly(given, names):
    hidden = ("no_proxy", "http_proxy", "https_proxy", "all_proxy")
    environment = {key: value for key, value in os.environ.items() if key.lower() not in hidden}
    environment |= {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9"} | given
    run = subprocess.run(
        [sys.executable, "-c", PROXY_PROGRAM], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == [names, [True, True], [True, True], [None, None], False]


def test_a_socks_proxy_can_be_used(monkeypatch):
    import httpx

    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    httpx.Client().close()  # raises where a package is missing


def test_everything_past_the_proxy_stays_so(monkeypatch):
    from components.core.process import bypass_proxies_for_loopback

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("no_proxy", raising=False)
    bypass_proxies_for_loopback()
    assert os.environ["NO_PROXY"] == "*"


@pytest.mark.parametrize("module", ["components.stages", "components.commands", "pipelines"])
def test_processes_that_import_much_collect_rarely(module):
    code = f"import gc, {module}; assert gc.get_threshold()[0] > 10_000, gc.get_threshold()"
    subprocess.run([sys.executable, "-c", code], check=True)


MEMORY_PROGRAM = """
import resource, sys
if sys.argv[1] == "keep":
    from components.core.process import keep_freed_memory
    keep_freed_memory()

def take_and_free():
    return [bytes(2**20) for _ in range(16)] and None

for _ in range(3):
    take_and_free()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    take_and_free()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_memory_that_was_freed_is_not_asked_for_again() -> None:
    def faults(way: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", MEMORY_PROGRAM, way], check=True, capture_output=True, text=True
        )
        return int(done.stdout)

    assert faults("keep") < faults("leave") / 10
