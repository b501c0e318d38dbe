"""``virtex status``."""

import json
import shutil
from pathlib import Path

import pytest

from pipelines import cli

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def workspace(small_workspace, monkeypatch):
    from dvc.repo import Repo

    Repo.init(str(small_workspace), no_scm=True).close()
    shutil.copy(REPOSITORY / "dvc.yaml", small_workspace)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return small_workspace


def test_a_fresh_clone(workspace, capsys):
    assert cli.main(["status", "tokenize"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "never run    sources, datasets, tokenize" in lines
    assert lines[-1] == "cost         unknown for datasets, tokenize"
    assert not (workspace / "mlflow.db").exists()


def test_for_programs(workspace, capsys):
    assert cli.main(["status", "--json"]) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert {"datasets", "pretrain", "report"} <= {entry["stage"] for entry in stages}
    assert cli.main(["status", "tokenise"]) == 2


def test_check_tells_by_its_status(workspace, monkeypatch, capsys):
    assert cli.main(["status", "--check", "tokenize"]) == 1
    assert capsys.readouterr().out.split() == ["sources", "datasets", "tokenize"]
    monkeypatch.setattr("pipelines.status.state.stale_in_lock", lambda _: ())
    assert cli.main(["status", "--check"]) == 0
    assert capsys.readouterr().out == "dvc.lock is up to date\n"


def test_in_a_pipe_nothing_is_cut_short(workspace, monkeypatch, capsys):
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    assert cli.main(["status"]) == 0
    (new,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("never run")]
    assert "more" not in new
    assert len(new) > 300
    assert cli.main(["preset", "list"]) == 0
    assert "..." not in capsys.readouterr().out
