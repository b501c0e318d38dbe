"""The command line's small commands, and what it must not import."""

import contextlib
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from components.errors import InputError
from pipelines import cli, servers
from pipelines.graph import Plan, Stage
from pipelines.outcomes import REPORT
from pipelines.workspace import STATE_DIR

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "tiny.yaml").write_text("# Smaller.\ntokenize:\n  vocab_size: 123\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_presets(workspace, capsys):
    assert cli.main(["preset", "list"]) == 0
    assert capsys.readouterr().out == "  tiny\n"
    assert cli.main(["preset", "show", "tiny"]) == 0
    assert capsys.readouterr().out.startswith("# Smaller.")
    assert cli.main(["preset", "apply", "tiny"]) == 0
    assert "-> 123" in capsys.readouterr().out
    assert "vocab_size: 123" in (workspace / "params.yaml").read_text()
    assert cli.main(["preset", "list"]) == 0
    assert capsys.readouterr().out == "* tiny\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["preset", "apply", "tyni"],
        ["run", "--set", "tokenize.vocab_sise=3"],
        ["run", "--preset", "x"],
        ["report"],
    ],
)
def test_bad_input_costs_nothing(workspace, capsys, arguments):
    before = (workspace / "params.yaml").read_text()
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err.startswith("virtex: error: ")
    assert (workspace / "params.yaml").read_text() == before


@pytest.mark.parametrize("command", [["run"], ["ui"], ["report"], ["preset", "list"]])
def test_elsewhere_nothing_is_done(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    assert cli.main(command) == 2
    assert "repository's root folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_bad_number_of_stages_at_a_time(workspace, monkeypatch, capsys):
    monkeypatch.setenv("VIRTEX_MAX_PARALLEL", "many")
    assert cli.main(["run"]) == 2
    assert "VIRTEX_MAX_PARALLEL='many'" in capsys.readouterr().err


def test_a_run_without_the_report_does_not_show_an_old_one(workspace, monkeypatch, capsys):
    reported = Stage("report", (), (str(REPORT),))
    (workspace / REPORT).parent.mkdir(parents=True)
    (workspace / REPORT).write_text("| old |")
    for stages, shown in (((reported,), True), ((Stage("tokenize", (), ("data/tokenizer",)),), False)):
        plan = Plan(stages, frozenset(stage.name for stage in stages))
        monkeypatch.setattr("pipelines.preparation.prepare", lambda *_, plan=plan: (plan, []))
        assert cli.main(["run"]) == 0
        output = capsys.readouterr().out
        assert "Nothing to do: all 1 stages" in output
        assert ("| old |" in output) == shown


def test_an_interrupt_before_the_flow_starts_is_kept(workspace, monkeypatch, capsys):
    plan = Plan((Stage("tokenize", (), ("data/tokenizer",)),), frozenset())

    def interrupted(*_):
        os.kill(os.getpid(), signal.SIGINT)
        return plan, []

    monkeypatch.setattr("pipelines.preparation.prepare", interrupted)
    monkeypatch.setattr(cli, "_run_flow", lambda *_: pytest.fail("the flow was started"))
    assert cli.main(["run"]) == 130
    assert "Stopping" in capsys.readouterr().out


def test_report(workspace, capsys):
    (workspace / "outputs" / "report").mkdir(parents=True)
    (workspace / "outputs" / "report" / "report.md").write_text("| a |\n")
    assert cli.main(["report"]) == 0
    assert "| a |" in capsys.readouterr().out


def test_free_port_skips_a_taken_one():
    import socket

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


def test_ui_stops_its_servers_however_often_it_is_interrupted(workspace, monkeypatch, capsys):
    stopped = []

    @contextlib.contextmanager
    def fake_servers(*_):
        try:
            yield {"MLflow": "http://127.0.0.1:1"}
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            stopped.append(True)

    monkeypatch.setattr(cli, "servers", fake_servers)
    monkeypatch.setattr(cli, "use_workspace_server", lambda root: None)
    monkeypatch.setattr(cli.time, "sleep", lambda seconds: os.kill(os.getpid(), signal.SIGINT))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert cli.main(["ui"]) == 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert stopped
    assert "MLflow   http://127.0.0.1:1" in capsys.readouterr().out


def test_a_second_ui_leaves_the_note_of_the_first(workspace, monkeypatch):
    note = workspace / STATE_DIR / "ui.json"
    note.parent.mkdir()
    note.write_text("{}")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:2")
    with servers.servers(workspace, 5000, 4200) as addresses:
        assert addresses == {"MLflow": "http://127.0.0.1:2", "Prefect": "http://127.0.0.1:1"}
    assert note.exists()


def test_prefect_is_pointed_at_the_workspace(workspace, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "")
    monkeypatch.delenv("PREFECT_SERVER_DATABASE_CONNECTION_URL")
    servers.use_workspace_server(workspace)
    assert os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"].endswith(f"{STATE_DIR}/prefect.db")
    note = {"prefect_api_url": "http://127.0.0.1:1/api", "process": servers.process_mark(os.getpid())}
    (workspace / STATE_DIR / "ui.json").write_text(json.dumps(note))
    servers.use_workspace_server(workspace)
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:1/api"
