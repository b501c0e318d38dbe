"""The whole flow on a small repository, as a user starts it: one workspace, one story.

The tests build on each other in file order: a first run, one with nothing to do, a failure, a
Ctrl-C, a killed run and its successor, a stage run by DVC alone.
"""

import json
import os
import re
import signal

import psutil
import pytest

from components.tracking.repro import REPRO_TAG
from pipelines import cli
from pipelines.notifications import WEBHOOK_VARIABLE

pytestmark = pytest.mark.integration  # one story: in order, in one worker (`--dist loadfile`)

DVC_YAML = """
stages:
  first:
    cmd: python stage.py first source.txt
    deps: [source.txt]
    params: [tokenize.vocab_size]
    outs: [outputs/first/out.txt, outputs/first/mlflow_run.json]
  part:
    matrix: {half: [a, b]}
    cmd: python part.py ${item.half}
    deps: [outputs/first/out.txt]
    outs: ["outputs/part/${item.half}.txt"]
  last:
    cmd: python stage.py last outputs/part/a.txt
    deps: [outputs/part/a.txt, outputs/part/b.txt]
    outs: [outputs/last/out.txt, outputs/last/mlflow_run.json, outputs/last/metrics.json]
    meta: {deadline: 5min, tags: [quick]}
"""

PART = """
import shutil, sys, time
from pathlib import Path

half, other = sys.argv[1], {"a": "b", "b": "a"}[sys.argv[1]]
Path("outputs/part").mkdir(parents=True, exist_ok=True)
Path(f"control/part-{half}").touch()
limit = time.monotonic() + 120
while not Path(f"control/part-{other}").exists():  # each waits until the other runs too
    assert time.monotonic() < limit, "the other half never started beside this one"
    time.sleep(0.05)
shutil.copy("outputs/first/out.txt", f"outputs/part/{half}.txt")
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, new_workspace):
    root = tmp_path_factory.mktemp("workspace")
    (root / "part.py").write_text(PART)
    with new_workspace(root, DVC_YAML) as workspace:
        yield workspace


def by_stage(runs):
    return {run.data.tags.get("dvc.stage", "flow"): run for run in reversed(runs)}


def described(run):
    return run.data.tags.get("mlflow.note.content", "").splitlines()


def test_first_run(workspace):
    code, output = workspace.run()
    assert code == 0, output
    assert "hello from first" in output
    assert workspace.text("outputs/last/out.txt") == "one"
    positions = [output.index(f"'{name}' - Finished") for name in ("first", "part@a", "part@b", "last")]
    assert positions[0] < min(positions[1:3])
    assert max(positions[1:3]) < positions[3]

    runs = by_stage(workspace.runs())
    assert set(runs) == {"flow", "first", "last"}
    assert all(run.info.status == "FINISHED" for run in runs.values())
    parent = runs["flow"].info.run_id
    assert {runs[name].data.tags["mlflow.parentRunId"] for name in ("first", "last")} == {parent}
    (row,) = (line for line in described(runs["flow"]) if line.startswith("| last |"))
    assert row.startswith("| last | ran | ")
    assert runs["last"].info.run_id in row
    assert runs["flow"].data.params["tokenize.vocab_size"] == "200"
    assert json.loads(workspace.text("outputs/last/mlflow_run.json"))["run_id"] == runs["last"].info.run_id


def test_nothing_to_do(workspace, monkeypatch, capsys):
    monkeypatch.chdir(workspace.root)
    runs = len(workspace.runs())
    assert cli.main(["run"]) == 0
    assert "Nothing to do: all 4 stages are unchanged." in capsys.readouterr().out
    assert len(workspace.runs()) == runs


def test_flow_called_directly_with_nothing_to_do(workspace, monkeypatch):
    from pipelines.run import virtex

    monkeypatch.chdir(workspace.root)
    runs = len(workspace.runs())
    state = virtex(return_state=True)
    assert state.is_completed()
    assert state.name == "Cached"
    assert len(workspace.runs()) == runs


def test_bad_values_fail_the_run_and_are_told(workspace, webhook, monkeypatch):
    from pipelines.run import virtex

    monkeypatch.chdir(workspace.root)
    monkeypatch.setenv(WEBHOOK_VARIABLE, webhook.url)
    state = virtex(set=["tokenize.vocab_sise=5"], return_state=True)
    assert state.is_failed()
    assert state.message.startswith("--set tokenize.vocab_sise=5: unknown key `tokenize.vocab_sise` (did you")
    (told,) = webhook.taken
    assert told["state"] == "failed"
    assert "unknown key `tokenize.vocab_sise`" in told["errors"]["run"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("params.yaml", None, "params.yaml: a folder; expected a YAML file that you may read"),
        ("params.yaml", b"a: caf\xe9", "params.yaml: line 1: not UTF-8 text; save it as UTF-8"),
        (
            "dvc.lock",
            b"[" * 100_000,
            "/dvc.lock: nested too deeply; expected at most 50 levels; `git checkout",
        ),
        (
            ".virtex/run.lock",
            None,
            "/.virtex/run.lock: Is a directory; make it usable, or name another place",
        ),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(workspace, monkeypatch, name, content, expected):
    from pipelines.run import virtex

    monkeypatch.chdir(workspace.root)
    path = workspace.root / name
    path.rename(aside := path.with_suffix(".aside"))
    try:
        path.mkdir() if content is None else path.write_bytes(content)
        state = virtex(return_state=True)
    finally:
        path.rmdir() if content is None else path.unlink()
        aside.rename(path)
    assert state.name == "Failed"
    assert state.message.removeprefix(str(workspace.root)).startswith(expected)
    assert "\n" not in state.message


def test_a_cancellation_in_prefect_is_noticed(workspace):
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run
    from prefect.states import Cancelling

    from pipelines.prefect_runs import cancelled_in_prefect

    answers = []

    @flow
    def cancelled_midway():
        asked = cancelled_in_prefect()
        answers.append(asked())
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(flow_run.id, Cancelling(), force=True)
        answers.append(asked())

    cancelled_midway(return_state=True)
    assert answers == [False, True]


def test_failure_with_the_tracking_server_away(workspace):
    (workspace.root / "control" / "last-fails").touch()
    workspace.change("two")
    runs = len(workspace.runs())
    code, output = workspace.run(MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    (workspace.root / "control" / "last-fails").unlink()
    assert code == 1
    assert output.rstrip().endswith("virtex: error: last: error: the input is bad")
    assert "No MLflow run for this pipeline run" in output
    assert "No MLflow run for first" in output
    assert workspace.text("outputs/first/out.txt") == "two"
    assert workspace.text("outputs/last/out.txt") == "one"
    assert json.loads(workspace.text("outputs/last/mlflow_run.json"))["run_id"]
    assert len(workspace.runs()) == runs


def test_ctrl_c(workspace, monkeypatch, capsys):
    process = workspace.start_and_wait_for_sleep(PREFECT_API_URL="")  # a temporary server in the same group
    with monkeypatch.context() as patch:
        patch.chdir(workspace.root)
        assert cli.main(["run"]) == 2
    refusal = capsys.readouterr().err
    assert f"another run is at work in this workspace (process {process.pid}" in refusal
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "Connect" not in output.split("Stopping the running stages")[1]
    assert workspace.stage_processes() == []
    assert workspace.text("outputs/last/out.txt") == "one"
    assert json.loads(workspace.text(".dvc/tmp/rwlock")) == {}
    runs = by_stage(workspace.runs())
    assert runs["last"].info.status == "KILLED"
    assert runs["flow"].info.status == "KILLED"
    assert any(line.startswith("| last | stopped |") for line in described(runs["flow"]))


def test_killed_run_and_its_successor(workspace):
    process = workspace.start_and_wait_for_sleep(PREFECT_API_URL="")
    server = next(child for child in psutil.Process(process.pid).children() if "uvicorn" in child.cmdline())
    process.kill()
    process.wait()
    assert workspace.stage_processes()
    assert workspace.text("outputs/last/out.txt") == "half-written"
    workspace.wake_up("last")
    workspace.change("one")
    code, output = workspace.run()
    assert code == 0, output
    assert f"The run before this one (process {process.pid}, " in output
    assert "Stopped orphaned stage last of a crashed run." in output
    assert workspace.stage_processes() == []
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
    assert workspace.text("outputs/last/out.txt") == "one"
    for stage in ("first", "part@a", "part@b"):
        assert f"'{stage}' - Finished in state Restored" in output
    assert re.search("'last' - Finished in state (Cached|Restored)", output)  # it was put back before
    assert "RUNNING" not in {run.info.status for run in workspace.runs()}


def test_dvc_alone_leaves_the_same_record(workspace):
    workspace.change("three")
    (workspace.root / "control" / "part-a").touch()  # DVC runs one after the other
    (workspace.root / "control" / "part-b").touch()
    before = {run.info.run_id for run in workspace.runs()}
    done = workspace.dvc("repro")
    assert done.returncode == 0, done.stderr
    runs = new_runs(workspace, before)
    assert set(runs) == {"flow", "first", "last"}
    parent = runs["flow"]
    assert parent.info.run_name.startswith("tiny + tokenize.vocab_size=200 · ")
    assert parent.data.tags["mlflow.source.name"] == "dvc repro"
    assert {runs[name].data.tags["mlflow.parentRunId"] for name in ("first", "last")} == {parent.info.run_id}
    assert json.loads(workspace.text("outputs/first/mlflow_run.json"))["run_id"] == runs["first"].info.run_id
    assert any(line.startswith("| last | ran |") for line in described(parent))
    assert parent.info.status == "FINISHED"


def new_runs(workspace, before):
    return by_stage([run for run in workspace.runs() if run.info.run_id not in before])


def test_both_ways_in_leave_the_same_record(workspace):
    before = {run.info.run_id for run in workspace.runs()}
    code, output = workspace.run("--force")
    assert code == 0, output
    by_flow = records(workspace, before)
    before = {run.info.run_id for run in workspace.runs()}
    done = workspace.dvc("repro", "--force")
    assert done.returncode == 0, done.stderr
    by_dvc = records(workspace, before)
    parent = by_flow["flow"]
    settings = {key: parent["params"].pop(key) for key in ("targets", "preset", "set", "force")}
    assert settings == {"targets": "[]", "preset": "None", "set": "[]", "force": "True"}
    # Only a flow has a process that lives from beginning to end and can watch the machine's load.
    parent["metrics"] = [name for name in parent["metrics"] if not name.startswith("system/")]
    assert set(parent["artifacts"]) >= {"stages.md", "stages.json", "params.yaml", "dvc.lock"}
    assert by_flow == by_dvc


def records(workspace, before):
    """All that the new runs have, by stage, without what differs from run to run."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{workspace.root}/mlflow.db")
    passing = ("virtex.process", "mlflow.parentRunId", "mlflow.source.name", "mlflow.runName", REPRO_TAG)
    found = {}
    for stage, run in new_runs(workspace, before).items():
        tags = {key: value for key, value in run.data.tags.items() if key not in passing}
        if "mlflow.note.content" in tags:  # `part` writes no run file, by which `dvc repro` would be told
            note = re.sub(
                r" · \[Prefect\]\(\S+\)", "", tags["mlflow.note.content"]
            )  # `dvc repro` has no such page
            table = re.sub(r"\d+\.\d|\b[0-9a-f]{8,32}\b", "_", note)
            tags["mlflow.note.content"] = sorted(line for line in table.splitlines() if "part@" not in line)
        found[stage] = {
            "name": run.info.run_name.partition(" · ")[0],
            "status": run.info.status,
            "below": "mlflow.parentRunId" in run.data.tags,
            "tags": tags,
            "params": dict(run.data.params),
            "metrics": sorted(run.data.metrics),
            "datasets": [given.dataset.name for given in run.inputs.dataset_inputs],
            "artifacts": sorted(artifact_names(client, run.info.run_id)),
        }
    return found


def artifact_names(client, run_id, folder=None):
    for file in client.list_artifacts(run_id, folder):
        if file.is_dir:
            yield from artifact_names(client, run_id, file.path)
        else:
            yield file.path
