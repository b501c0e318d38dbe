"""``virtex ui``."""

import contextlib
import os
import signal

from pipelines import cli
from pipelines.commands import ui


def test_ui_stops_its_servers_however_often_it_is_interrupted(small_workspace, monkeypatch, capsys):
    stopped = []

    @contextlib.contextmanager
    def fake_servers(*_):
        try:
            yield {"MLflow": "http://127.0.0.1:1"}
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            stopped.append(True)

    monkeypatch.setattr(ui, "servers", fake_servers)
    monkeypatch.setattr(ui, "use_workspace_server", lambda root: None)
    monkeypatch.setattr(ui.time, "sleep", lambda seconds: os.kill(os.getpid(), signal.SIGINT))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert cli.main(["ui"]) == 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert stopped
    assert "MLflow   http://127.0.0.1:1" in capsys.readouterr().out
