"""The Prefect server of one command: started without waiting, noted, ended with the command."""

import json
import os
import sys
import time

import pytest

from components.core.errors import InputError
from components.core.process import is_alive
from pipelines import servers
from pipelines.workspace import STATE_DIR

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/health" else 404); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def at_exit(monkeypatch):
    """What would be done at the end of the process."""
    left = []
    monkeypatch.setattr("atexit.register", left.append)
    monkeypatch.setattr(servers, "prefect_command", lambda port, *_: command(SERVER, port))
    for name in ("PREFECT_API_URL", "VIRTEX_TEMPORARY_SERVER"):
        monkeypatch.setenv(name, "")  # restored afterwards, whatever is set here
    return left


def command(code, port):
    return [sys.executable, "-c", code, str(port)]


def never():
    return False


def test_a_server_that_is_configured_is_used(tmp_path, monkeypatch, at_exit):
    monkeypatch.setenv("PREFECT_API_URL", "http://team/api")
    servers.start_temporary_server(tmp_path)
    assert servers.has_lasting_server()
    assert at_exit == []
    monkeypatch.setattr(servers, "require_server", lambda address, _: asked.append(address))
    asked = []
    servers.start_temporary_server(tmp_path)(never)
    assert asked == ["http://team/api"]


def test_it_is_started_noted_and_ended(tmp_path, at_exit):
    wait = servers.start_temporary_server(tmp_path)
    (mark,) = json.loads((tmp_path / STATE_DIR / "servers.json").read_text())
    (end,) = at_exit
    wait(never)
    assert os.environ["PREFECT_API_URL"].startswith("http://127.0.0.1:")
    assert not servers.has_lasting_server()
    end()
    limit = time.monotonic() + 60
    while is_alive(mark):
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_waiting_ends_with_the_server_or_with_a_stop(tmp_path, monkeypatch, at_exit):
    dying = "import sys; sys.exit('no such database')"
    monkeypatch.setattr(servers, "prefect_command", lambda port, *_: command(dying, port))
    with pytest.raises(InputError, match="no such database"):
        servers.start_temporary_server(tmp_path)(never)
    monkeypatch.setenv("PREFECT_API_URL", "")
    silent = "import time; time.sleep(600)"
    monkeypatch.setattr(servers, "prefect_command", lambda port, *_: command(silent, port))
    servers.start_temporary_server(tmp_path)(lambda: True)
    at_exit[-1]()
