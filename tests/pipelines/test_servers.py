"""Where the servers of a workspace listen, and which ones are used."""

import json
import os
import socket
import sys
import time
from functools import partial

import pytest

from components.core.errors import InputError
from components.core.process import is_alive, process_mark
from pipelines import servers
from pipelines.process import group_processes
from pipelines.workspace import STATE_DIR


def test_free_port_skips_a_taken_one():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wanted = taken.getsockname()[1]
        assert servers.free_port(wanted) > wanted


def test_no_port_is_free(monkeypatch):
    monkeypatch.setattr("socket.socket.bind", refuse)
    with pytest.raises(InputError, match="no free port from 65530"):
        servers.free_port(65530)


def test_servers_of_the_environment_are_used_and_a_running_ui_is_left_alone(small_workspace, monkeypatch):
    note = small_workspace / servers.UI_NOTE
    note.parent.mkdir()
    note.write_text("{}")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:2")
    with servers.servers(small_workspace, 5000, 4200) as pages:
        assert pages.addresses == {"MLflow": "http://127.0.0.1:2", "Prefect": "http://127.0.0.1:1"}
        assert pages.ended() is None
    assert note.exists()


def test_prefect_is_pointed_at_the_workspace(small_workspace, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "")
    monkeypatch.delenv("PREFECT_SERVER_DATABASE_CONNECTION_URL")
    servers.use_workspace_server(small_workspace)
    assert os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"].endswith(f"{STATE_DIR}/prefect.db")
    note = {
        "process": process_mark(os.getpid()),
        "servers": [],
        "addresses": {"MLflow": "http://127.0.0.1:2"},
        "prefect_api_url": "http://127.0.0.1:1/api",
    }
    (small_workspace / servers.UI_NOTE).write_text(json.dumps(note))
    running = servers.running_ui(small_workspace)
    assert running == servers.RunningUi(os.getpid(), note["addresses"], note["prefect_api_url"])
    servers.use_workspace_server(small_workspace)
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:1/api"
    (small_workspace / servers.UI_NOTE).write_text(json.dumps(note | {"process": "1 1"}))
    assert servers.running_ui(small_workspace) is None


SERVER = """
import http.server, sys, threading, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
time.sleep(float(sys.argv[2]))
sys.exit("the database is locked")
"""


@pytest.fixture
def small_servers(small_workspace, monkeypatch):
    """Servers that start at once; returns a function that sets how long each lives, in seconds."""
    (small_workspace / "mlflow.db").touch()
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def living(mlflow, prefect):
        for name, seconds in (("mlflow", mlflow), ("prefect", prefect)):
            command = partial(
                lambda seconds, port: [sys.executable, "-c", SERVER, str(port), str(seconds)], seconds
            )
            monkeypatch.setattr(servers, f"{name}_command", command)
        return small_workspace

    return living


def test_both_servers_run_and_stop(small_servers):
    root = small_servers(600, 600)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wanted = taken.getsockname()[1]
        with servers.servers(root, wanted, wanted + 200) as pages:
            assert not pages.addresses["MLflow"].endswith(f":{wanted}")
            assert [f"Port {wanted} is taken" in notice for notice in pages.notices] == [True]
            running = servers.running_ui(root)
            assert running.pid == os.getpid()
            assert running.addresses == pages.addresses
            assert pages.ended() is None
            marks = json.loads((root / servers.UI_NOTE).read_text())["servers"]
            assert all(is_alive(mark) for mark in marks)
            assert len(marks) == 2
    assert not any(is_alive(mark) for mark in marks)
    assert servers.running_ui(root) is None


def test_a_server_that_dies_is_noticed(small_servers):
    root = small_servers(600, 0.5)
    limit = time.monotonic() + 60
    with servers.servers(root, 45000, 46000) as pages:
        while not pages.ended():
            assert time.monotonic() < limit
            time.sleep(0.05)
        assert "the Prefect server has ended" in pages.ended()
        assert "the database is locked" in pages.ended()
        assert "prefect-server.log" in pages.ended()


def test_a_server_that_dies_at_once_is_not_waited_for(small_servers, monkeypatch):
    root = small_servers(600, 600)
    monkeypatch.setattr(
        servers, "mlflow_command", lambda port: [sys.executable, "-c", "raise SystemExit('no')"]
    )
    with (
        pytest.raises(InputError, match=r"the MLflow server has ended.*\n  no"),
        servers.servers(root, 45100, 46100),
    ):
        pass
    assert not (root / servers.UI_NOTE).exists()


def test_servers_of_a_killed_ui_are_ended(small_servers, monkeypatch):
    root = small_servers(600, 600)
    with servers.servers(root, 45200, 46200):
        note = json.loads((root / servers.UI_NOTE).read_text())
        (root / servers.UI_NOTE).write_text(json.dumps(note | {"process": "1 1"}))
        with servers.servers(root, 45200, 46200) as pages:
            assert not any(group_processes(int(mark.split()[0])) for mark in note["servers"])
            assert pages.addresses == note["addresses"]


def refuse(*_):
    raise OSError
