"""Runs asked for in Prefect: served by ``virtex serve``, and by the worker of a process pool. One story.

The tests build on each other in file order: a run, refusals, a cancellation, a flow killed outright, the
server's own end, then a worker in its place.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipelines import cli
from pipelines.notifications import WEBHOOK_VARIABLE

pytestmark = pytest.mark.integration  # one story: in order, in one worker (`--dist loadfile`)

REPOSITORY = Path(__file__).resolve().parents[2]

DVC_YAML = """
stages:
  only:
    cmd: python stage.py only source.txt
    deps: [source.txt]
    params: [tokenize.vocab_size]
    outs: [outputs/only/out.txt, outputs/only/mlflow_run.json]
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, new_workspace, webhook_server):
    with new_workspace(tmp_path_factory.mktemp("served"), DVC_YAML) as workspace:
        workspace.environment[WEBHOOK_VARIABLE] = webhook_server.url
        yield workspace


@pytest.fixture(scope="module")
def served(workspace):
    quick = {"PREFECT_RUNNER_POLL_FREQUENCY": "1"}
    process = workspace.start_module("pipelines.cli", "serve", "--name", "here", **quick)
    try:
        for line in process.stdout:
            if "Waiting for runs of the deployment virtex/here" in line:
                break
        else:
            pytest.fail(f"it ended with {process.wait()}")
        yield process
    finally:
        end(process)


def end(process):
    for child in [*psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []:
        child.kill()
    process.kill()
    process.communicate()


def ask(deployment="virtex/here", **parameters):
    from prefect.deployments import run_deployment

    return run_deployment(deployment, parameters=parameters, timeout=0)


def prefect_client():
    from prefect.client.orchestration import get_client

    return get_client(sync_client=True)


def final_state(flow_run):
    limit = time.monotonic() + 240
    with prefect_client() as client:
        while True:
            state = client.read_flow_run(flow_run.id).state
            if state.is_final():
                return state
            assert time.monotonic() < limit
            time.sleep(0.2)


def task_states(flow_run):
    with prefect_client() as client:
        return {run.name: run.state.name for run in client.read_task_runs() if run.flow_run_id == flow_run.id}


def holder(workspace):
    """The process of the run at work."""
    return json.loads(workspace.text(".virtex/run.lock"))["pid"]


def assert_nothing_is_left(workspace):
    assert workspace.stage_processes() == []
    assert workspace.text("outputs/only/out.txt") == "one"
    assert workspace.text(".virtex/run.lock") == ""
    assert not any(json.loads(workspace.text(".dvc/tmp/rwlock")).values())
    assert list((workspace.root / ".virtex" / "stages").iterdir()) == []
    assert "RUNNING" not in {run.info.status for run in workspace.runs()}


def test_a_run_that_is_asked_for(workspace, served, webhook):
    flow_run = ask(preset="tiny", set=["pretrain.seed=7"])
    state = final_state(flow_run)
    assert state.is_completed(), state
    assert "vocab_size: 123 " in workspace.text("params.yaml")
    assert "  seed: 7\n" in workspace.text("params.yaml")
    assert workspace.text("outputs/only/out.txt") == "one"
    assert task_states(flow_run) == {"only": "Completed"}
    stage, parent = workspace.runs()
    assert parent.data.tags["virtex.flow"] == "virtex"
    assert "\n| only | ran | " in parent.data.tags["mlflow.note.content"]
    assert parent.info.run_name.startswith("tiny + pretrain.seed=7 · ")
    assert stage.data.tags["mlflow.parentRunId"] == parent.info.run_id
    (told,) = webhook.taken
    assert told["state"] == "completed"
    assert told["stages"] == {"only": "ran"}
    assert told["links"]["Prefect"].endswith(str(flow_run.id))


def test_virtex_run_finds_it_done(workspace, served, monkeypatch, capsys):
    monkeypatch.chdir(workspace.root)
    assert cli.main(["run"]) == 0
    assert "Nothing to do: all 1 stages are unchanged." in capsys.readouterr().out


def test_virtex_run_leaves_the_same_record(workspace, served):
    asked = workspace.runs()
    code, output = workspace.run("--force")
    assert code == 0, output
    assert [shape(run) for run in workspace.runs()[: -len(asked)]] == [shape(run) for run in asked]


def shape(run):
    return set(run.data.tags), set(run.data.params), set(run.data.metrics)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"preset": "tinny"}, "'tinny' is not one of ['tiny']"),
        ({"set": ["tokenize.vocab_size"]}, "'tokenize.vocab_size' does not match"),
        ({"targets": ["two words"]}, "'two words' does not match"),
        ({"force": "maybe"}, "'maybe' is not of type 'boolean'"),
        ({"max_parallel": 0}, "0 is less than the minimum of 1"),
    ],
)
def test_bad_parameters_are_refused_when_asked(served, parameters, reason):
    with pytest.raises(Exception, match=re.escape(reason)):
        ask(**parameters)


def test_one_at_a_time_and_cancelled(workspace, served, webhook, monkeypatch, capsys):
    from prefect.states import Cancelled, Cancelling

    workspace.sleep("only")
    first, second = ask(force=True), ask()
    workspace.wait_for_sleep(served)
    monkeypatch.chdir(workspace.root)
    assert cli.main(["run"]) == 2
    assert f"another run is at work in this workspace (process {holder(workspace)}" in capsys.readouterr().err
    again = workspace.start_module("pipelines.cli", "serve")
    assert "another `virtex serve` is at work in this workspace" in again.communicate(timeout=120)[0]
    assert again.returncode == 2
    with prefect_client() as client:
        assert client.read_flow_run(second.id).state.is_scheduled()
        client.set_flow_run_state(second.id, Cancelled())
        client.set_flow_run_state(first.id, Cancelling())
    assert final_state(first).is_cancelled()
    assert task_states(first) == {"only": "Cancelled"}
    workspace.wake_up("only")
    assert_nothing_is_left(workspace)
    assert [run.info.status for run in workspace.runs()[:2]] == ["KILLED", "KILLED"]
    assert [message["state"] for message in webhook.taken] == ["cancelled"]


def test_a_flow_that_is_killed_outright(workspace, served, webhook):
    workspace.sleep("only")
    flow_run = ask(force=True)
    workspace.wait_for_sleep(served)
    os.kill(holder(workspace), signal.SIGKILL)
    assert final_state(flow_run).is_crashed()
    wait_until(lambda: webhook.taken)  # the last thing that the server does about it
    workspace.wake_up("only")
    assert_nothing_is_left(workspace)
    assert task_states(flow_run) == {"only": "Crashed"}
    (told,) = webhook.taken
    assert told["state"] == "failed"
    assert told["run"].startswith("tiny · ")
    assert "its process crashed" in told["errors"]["run"]


def wait_until(is_so):
    limit = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < limit
        time.sleep(0.2)


def test_a_server_that_does_not_answer_is_not_waited_for(monkeypatch, capsys):
    from pipelines import serving

    async def ask_for_ever(_):
        await asyncio.sleep(3600)

    monkeypatch.setattr(serving, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(serving.Runner, "_pause_schedules", ask_for_ever)
    asyncio.run(serving._Runner(name="x")._pause_schedules())
    assert "Prefect's server does not answer" in capsys.readouterr().out


def test_the_server_ends_its_run_when_it_is_ended(workspace, served, webhook):
    workspace.sleep("only")
    flow_run = ask(force=True)
    workspace.wait_for_sleep(served)
    served.send_signal(signal.SIGTERM)
    output, _ = served.communicate(timeout=120)
    workspace.wake_up("only")
    assert served.returncode == 0, output
    assert 'Traceback (most recent call last):\n  File "/' not in output.split("KeyboardInterrupt")[-1]
    assert final_state(flow_run).is_cancelled()
    assert_nothing_is_left(workspace)


def test_a_process_pool(workspace, webhook):
    shutil.copytree(REPOSITORY / "deploy", workspace.root / "deploy")
    prefect(workspace, "work-pool", "create", "virtex-process", "--type", "process")
    prefect(workspace, "--no-prompt", "deploy", "--prefect-file", "deploy/prefect.yaml", "--name", "process")
    flow_run = ask("virtex/process", preset="tiny", force=True)
    prefect(
        workspace, "worker", "start", "--pool", "virtex-process", "--run-once", "--install-policy", "never"
    )
    assert final_state(flow_run).is_completed()
    assert task_states(flow_run) == {"only": "Completed"}
    assert workspace.runs()[1].info.run_name.startswith("tiny · ")
    assert_nothing_is_left(workspace)
    assert [message["state"] for message in webhook.taken] == ["completed"]


def prefect(workspace, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        cwd=workspace.root,
        env=workspace.environment | {"PWD": str(workspace.root)},  # as a shell sets it
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_signal_before_prefect_has_started_to_listen_ends_it(monkeypatch, tmp_path):
    from pipelines import serving

    class Slow(serving._Runner):
        async def aadd_flow(self, *_: object, **__: object) -> None:
            self.asked_to_stop = True

        async def start(self) -> None:
            await asyncio.sleep(600)

    monkeypatch.setattr(serving, "_Runner", Slow)
    monkeypatch.setattr(serving, "handle_ending", lambda handler: None)
    asyncio.run(serving._serve(tmp_path, "a", lambda: None, lambda: False))
