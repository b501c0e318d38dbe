"""Servers of Prefect that are closed, broken, silent or behind a password."""

import base64
import contextlib
import http.server
import os
import signal
import socket
import threading
import time

import pytest

from components.core.errors import InputError
from pipelines import prefect_server
from pipelines.prefect_server import require_server

DVC_YAML = """
stages:
  first:
    cmd:
    - touch control/sleeping; while [ -e control/waits ]; do sleep 0.1; done
    - python stage.py first source.txt
    deps: [source.txt]
    outs: [outputs/first/out.txt, outputs/first/mlflow_run.json]
"""


class Gate:
    """In front of a server: lets everything through, or nothing, or answers 500, or is silent.

    Attributes:
        mode: ``open``, ``shut``, ``broken`` or ``silent``.
        only_health: whether health is answered whatever the mode.
        is_waited_for: set once Prefect itself has asked a silent server.
        address: of it.
    """

    def __init__(self, port: int | None = None) -> None:
        self.mode = "open"
        self.only_health = False
        self.is_waited_for = threading.Event()
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}/api"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            begin = client.recv(65536)
            mode = "open" if self.only_health and b"/api/health" in begin[:40] else self.mode
            if mode == "shut":
                return
            if mode == "broken":
                body = b"Content-Length: 0\r\nConnection: close\r\n\r\n"
                client.sendall(b"HTTP/1.1 500 Internal Server Error\r\n" + body)
                return
            if mode == "silent":
                if b"Python-urllib" not in begin:  # ours
                    self.is_waited_for.set()
                time.sleep(600)
            if self._port is None:
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                return
            with socket.create_connection(("127.0.0.1", self._port)) as server:
                server.sendall(begin)
                back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
                back.start()
                self._pump(client, server)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.mode != "open" and not self.only_health:
                    time.sleep(600 if self.mode == "silent" else 0)
                    break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("mode", "said"),
    [("shut", "no answer"), ("broken", "answers HTTP 500"), ("silent", "no answer within 1 seconds")],
)
def test_a_bad_server_is_one_line(mode, said, monkeypatch):
    monkeypatch.setattr(prefect_server, "_ANSWER_SECONDS", 1.0 if mode == "silent" else 30.0)
    gate = Gate()
    require_server(gate.address)
    gate.mode = mode
    with pytest.raises(InputError, match=said) as caught:
        require_server(gate.address.replace("//", "//me:pa55word@"))
    assert "\n" not in str(caught.value)
    assert "pa55word" not in str(caught.value)
    assert "unset the variable" in str(caught.value)


@pytest.fixture
def guarded():
    """Address of a server like Prefect's behind a password: it tells everybody that it is well."""
    allowed = f"Basic {base64.b64encode(b'team:pa55word').decode()}"

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_in = self.path == "/api/health" or self.headers["Authorization"] == allowed
            self.send_response(200 if is_in else 401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}/api"
        httpd.shutdown()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", ": wants a user and a password; set PREFECT_API_AUTH_STRING=USER:PASSWORD"),
        ("team:wr0ngword", ": refuses the user or the password; correct PREFECT_API_AUTH_STRING"),
        ("team:pa55word", None),
    ],
)
def test_a_server_behind_a_password(guarded, words, said, monkeypatch):
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", words)
    if said is None:
        require_server(guarded)
        return
    with pytest.raises(InputError) as caught:
        require_server(guarded)
    assert str(caught.value) == f"PREFECT_API_URL={guarded}{said}"


@pytest.mark.parametrize("address", ["127.0.0.1:4200/api", "http://[::1", "http://", "http://h:port/api"])
def test_an_address_that_is_none(address):
    with pytest.raises(InputError, match="PREFECT_API_URL="):
        require_server(address)


def test_a_server_that_is_well_and_silent_otherwise_is_not_taken_for_one_that_refuses(monkeypatch):
    monkeypatch.setattr(prefect_server, "_REFUSAL_SECONDS", 0.5)
    gate = Gate()
    gate.mode, gate.only_health = "silent", True
    require_server(gate.address)


def test_who_has_asked_to_stop_does_not_wait(monkeypatch):
    gate = Gate()
    gate.mode = "silent"
    require_server(gate.address, lambda: True)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, new_workspace):
    with new_workspace(tmp_path_factory.mktemp("workspace"), DVC_YAML) as workspace:
        yield workspace


@pytest.fixture
def gate(workspace):
    port = workspace.environment["PREFECT_API_URL"].rpartition(":")[2].partition("/")[0]
    return Gate(int(port))


@pytest.mark.integration
class TestRuns:
    """``virtex run`` with such a server, one workspace for all."""

    def ended(self, process, seconds=240):
        output, _ = process.communicate(timeout=seconds)
        print(output)
        assert "Traceback" not in output
        return process.returncode, output

    def test_a_server_that_is_closed(self, workspace):
        code, output = self.ended(workspace.start(PREFECT_API_URL="http://127.0.0.1:9/api"))
        assert code == 2
        assert [line for line in output.splitlines() if "127.0.0.1:9" in line] == output.splitlines()[1:]

    @pytest.mark.parametrize("mode", ["broken", "silent"])
    def test_a_server_that_is_well_and_does_nothing(self, workspace, gate, mode):
        gate.mode, gate.only_health = mode, True
        process = workspace.start_impatient(PREFECT_API_URL=gate.address)
        if mode == "silent":
            assert gate.is_waited_for.wait(200)
            os.kill(process.pid, signal.SIGTERM)
        code, output = self.ended(process)
        assert code == {"broken": 1, "silent": 130}[mode]
        assert "virtex: error: " in output.splitlines()[-1]

    @pytest.mark.parametrize("mode", ["shut", "silent"])
    def test_a_server_that_is_lost_during_the_run_costs_no_result(self, workspace, gate, mode):
        workspace.change(mode)
        (workspace.root / "control" / "sleeping").unlink(missing_ok=True)
        (workspace.root / "control" / "waits").touch()
        process = workspace.start_impatient(PREFECT_API_URL=gate.address)
        workspace.wait_for_sleep(process)
        gate.mode = mode
        (workspace.root / "control" / "waits").unlink()
        code, output = self.ended(process)
        assert workspace.text("outputs/first/out.txt") == mode
        assert code == 0
        assert "virtex: error: PREFECT_API_URL=" in output.splitlines()[-1]
