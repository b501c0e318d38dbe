"""What is made of a ``dvc repro`` by its stages and by the next start, against a real SQLite store."""

import json
import os
import socket
import time

import pytest

from components.core.process import process_mark
from components.tracking import repro
from components.tracking.pipeline_run import FLOW_TAG, create_run
from components.tracking.provenance import HOST_TAG, PROCESS_TAG
from components.tracking.repro import REPRO_TAG, complete_record
from components.tracking.store import open_store

LOCK = """
schema: '2.0'
stages:
  kept: {cmd: x, outs: [{path: outputs/kept/mlflow_run.json}]}
  back: {cmd: x, outs: [{path: outputs/back/mlflow_run.json}]}
  new: {cmd: x, outs: [{path: outputs/new/mlflow_run.json}]}
  report: {cmd: x, outs: [{path: outputs/report/mlflow_run.json}, {path: outputs/report/report.md}]}
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "dvc.lock").write_text(LOCK)
    (tmp_path / "params.yaml").write_text("a: 1\n")
    return tmp_path


def write_run_file(root, stage, run_id):
    path = root / "outputs" / stage / "mlflow_run.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"run_id": run_id}))


def run_of(store, stage, parent, status):
    tags = {"dvc.stage": stage, "mlflow.parentRunId": parent}
    run_id = store.client.create_run(store.experiment_id, tags=tags).info.run_id
    if status:
        store.client.set_terminated(run_id, status)
    return run_id


@pytest.mark.parametrize(
    ("other", "end"), [(None, "FINISHED"), ("FAILED", "FAILED"), ("KILLED", "KILLED"), ("RUNNING", "KILLED")]
)
def test_the_table_tells_what_dvc_did(root, other, end):
    store = open_store()
    parent = store.client.create_run(store.experiment_id).info.run_id
    write_run_file(root, "kept", "1" * 32)
    time.sleep(0.05)
    started = time.time()
    time.sleep(0.05)
    write_run_file(root, "back", "2" * 32)
    new = run_of(store, "new", parent, "FINISHED")
    if other:
        run_of(store, "other", parent, None if other == "RUNNING" else other)
    write_run_file(root, "report", run_of(store, "report", parent, "FINISHED"))
    (root / "outputs" / "report" / "report.md").write_text("results")
    (root / "outputs" / "report" / "metrics.json").write_text('{"voc07.mAP": 20.5}')
    complete_record(root, store, parent, started)

    run = store.client.get_run(parent)
    assert run.info.status == end
    table = run.data.tags["mlflow.note.content"]
    assert (
        f"| kept | unchanged | 0.0 | [{'1' * 8}](#/experiments/{store.experiment_id}/runs/{'1' * 32}"
        "?workflowType=machine_learning) |" in table
    )
    assert "| back | restored | 0.0 |" in table
    assert "| new | ran | " in table
    assert new in table
    states = {"FAILED": "failed", "KILLED": "stopped", "RUNNING": "stopped"}
    assert other is None or f"| other | {states[other]} |" in table
    names = {file.path for file in store.client.list_artifacts(parent)}
    assert names == {"stages.md", "stages.json", "dvc.lock", "params.yaml"} | (
        {"report"} if not other else set()
    )
    assert run.data.metrics.get("voc07.mAP") == (None if other else 20.5)


def test_the_report_of_an_earlier_run_is_left_out(root):
    store = open_store()
    parent = store.client.create_run(store.experiment_id).info.run_id
    write_run_file(root, "report", "3" * 32)
    (root / "outputs" / "report" / "report.md").write_text("results of another day")
    time.sleep(0.05)
    started = time.time()
    run_of(store, "new", parent, "FINISHED")
    complete_record(root, store, parent, started)
    assert "| report | unchanged |" in store.client.get_run(parent).data.tags["mlflow.note.content"]
    assert "report" not in {file.path for file in store.client.list_artifacts(parent)}


@pytest.mark.parametrize(("dvc_lives", "status"), [(False, "KILLED"), (True, "RUNNING")])
def test_the_next_start_completes_what_a_dvc_that_has_ended_left(root, dvc_lives, status):
    """The stage that it was running was killed outright, and could say nothing."""
    store = open_store()
    mark = process_mark(os.getpid()) if dvc_lives else "999999 5"
    tags = {FLOW_TAG: "virtex", HOST_TAG: socket.gethostname(), PROCESS_TAG: mark, REPRO_TAG: str(root)}
    left = store.client.create_run(store.experiment_id, tags=tags).info.run_id
    killed = run_of(store, "new", left, None)
    opened = create_run(root, "next", "virtex", {})
    assert opened is not None
    opened[1].close("FINISHED")
    assert store.client.get_run(left).info.status == status
    assert store.client.get_run(killed).info.status == status
    table = store.client.get_run(left).data.tags.get("mlflow.note.content", "")
    assert ("| new | stopped |" in table) == (not dvc_lives)
    names = {file.path for file in store.client.list_artifacts(left)}
    assert names == (set() if dvc_lives else {"stages.md", "stages.json", "dvc.lock", "params.yaml"})
    assert store.client.get_run(left).data.tags[REPRO_TAG] == (str(root) if dvc_lives else "complete")


def test_a_record_that_cannot_be_completed_costs_no_stage(root, caplog):
    (root / "dvc.lock").write_text("stages: [")
    assert not repro.ReproRun(open_store(), "0" * 32, 0.0).update()
    assert "is incomplete" in caplog.text
