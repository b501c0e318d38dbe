"""Where the servers of a workspace listen, and which ones are used."""

import json
import os
import socket

import pytest

from components.errors import InputError
from pipelines import servers
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


def refuse(*_):
    raise OSError


def test_a_second_ui_leaves_the_note_of_the_first(small_workspace, monkeypatch):
    note = small_workspace / STATE_DIR / "ui.json"
    note.parent.mkdir()
    note.write_text("{}")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:2")
    with servers.servers(small_workspace, 5000, 4200) as addresses:
        assert addresses == {"MLflow": "http://127.0.0.1:2", "Prefect": "http://127.0.0.1:1"}
    assert note.exists()


def test_prefect_is_pointed_at_the_workspace(small_workspace, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "")
    monkeypatch.delenv("PREFECT_SERVER_DATABASE_CONNECTION_URL")
    servers.use_workspace_server(small_workspace)
    assert os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"].endswith(f"{STATE_DIR}/prefect.db")
    note = {"prefect_api_url": "http://127.0.0.1:1/api", "process": servers.process_mark(os.getpid())}
    (small_workspace / STATE_DIR / "ui.json").write_text(json.dumps(note))
    servers.use_workspace_server(small_workspace)
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:1/api"
