"""What a dead run leaves, and who is told; what needs real processes is in test_flow and test_serving."""

import json
from types import SimpleNamespace

import pytest

from pipelines import aftermath
from pipelines.aftermath import clear_up, clear_up_after
from pipelines.workspace import STATE_DIR, remember_group, run_lock

HOLDER = {"pid": 4194301, "started": "2026-11-25 10:00:00", "flow_run": None}
DEAD_GROUP = 4194302


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """One whose last run has died; what is checked out and how often MLflow's runs are closed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / STATE_DIR).mkdir()
    (tmp_path / STATE_DIR / "run.lock").write_text(json.dumps(HOLDER))
    done = SimpleNamespace(root=tmp_path, checked_out=[], closed=0)

    def close():
        done.closed += 1
        return ["Closed 2 MLflow runs of it."]

    monkeypatch.setattr(aftermath, "check_out", done.checked_out.extend)
    monkeypatch.setattr(aftermath, "_close_mlflow_runs", close)
    return done


def cleared(root):
    with run_lock(root):
        return clear_up(root)


def test_a_dead_run_is_cleared_up_after_once(workspace):
    remember_group(workspace.root, "lmdb@train", DEAD_GROUP)  # died with its run, as when the machine does
    died = "The run before this one (process 4194301, started 2026-11-25 10:00:00) died."
    assert cleared(workspace.root) == [died, "Closed 2 MLflow runs of it."]
    assert workspace.checked_out == ["lmdb@train"]
    assert cleared(workspace.root) == []
    assert (workspace.checked_out, workspace.closed) == (["lmdb@train"], 1)


def test_a_run_that_ended_well_leaves_nothing_to_do(workspace):
    (workspace.root / STATE_DIR / "run.lock").write_text("")
    assert cleared(workspace.root) == []
    assert (workspace.checked_out, workspace.closed) == ([], 0)


def test_outputs_that_cannot_be_put_back(workspace, monkeypatch):
    from components.core.errors import InputError

    def refuse(stages):
        raise InputError("the cache lacks it")

    monkeypatch.setattr(aftermath, "check_out", refuse)
    remember_group(workspace.root, "select", DEAD_GROUP)
    assert "The earlier outputs of select could not all be put back: the cache lacks it" in cleared(
        workspace.root
    )


@pytest.mark.parametrize("is_cancelling", [True, False])
def test_the_webhook_hears_of_a_dead_flow(workspace, monkeypatch, is_cancelling):
    told = []
    monkeypatch.setattr(aftermath, "notify", told.append)
    monkeypatch.setattr("prefect.client.orchestration.get_client", None)  # and the server is away
    flow_run = SimpleNamespace(id=None, name="demo")
    state = SimpleNamespace(is_cancelling=lambda: is_cancelling, message="out of memory")
    clear_up_after(None, flow_run, state)
    clear_up_after(None, flow_run, state)
    (message,) = told
    assert (message["run"], message["state"]) == ("demo", "cancelled" if is_cancelling else "failed")
    assert message["errors"] == {"run": "its process died; out of memory"}


def test_the_hook_leaves_a_run_at_work_alone(workspace, monkeypatch):
    monkeypatch.setattr(aftermath, "clear_up", None)
    with run_lock(workspace.root):
        clear_up_after(None, SimpleNamespace(id=None, name="demo"), None)
