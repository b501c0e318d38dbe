"""Two workers and a flow, each with a clone of its own, sharing a DVC remote, MLflow and Prefect over HTTP.

One story, in file order: a run on two workers against the same run on one machine, what is left to do
afterwards, a worker that crashes, a flow that is interrupted, a flow that crashes.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.pipelines.cluster.team import Team, git, make_repository, wait_for

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
moto_server = pytest.importorskip("moto.server", reason="the extra `dev` is not installed")

pytestmark = pytest.mark.integration  # one story: in order, in one worker (`--dist loadfile`)


@pytest.fixture(scope="module")
def team(tmp_path_factory, prefect_harness) -> Iterator[Team]:
    import boto3

    from pipelines.servers import free_port

    root = tmp_path_factory.mktemp("team")
    storage = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    storage.start()
    endpoint = "http://{}:{}".format(*storage.get_host_and_port())
    team = Team(root, "", endpoint)
    keys = {"aws_access_key_id": "team", "aws_secret_access_key": "team-secret", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=endpoint, **keys).create_bucket(Bucket="store")
    for folder in ("control", "mlflow"):
        (root / folder).mkdir()
    mlflow_port, dask_port = free_port(15500), free_port(18786)
    team.scheduler = f"tcp://127.0.0.1:{dask_port}"
    team.environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{mlflow_port}"
    team.environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    started = [
        team.start(
            "mlflow",
            "mlflow.log",
            *("mlflow", "server", "--host", "127.0.0.1", "--port", str(mlflow_port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{root}/mlflow/mlflow.db"),
            *("--artifacts-destination", f"{root}/mlflow/artifacts"),
        ),
        team.start(
            ".",
            "dask.log",
            *("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(dask_port)),
            "--no-dashboard",
        ),
    ]
    try:
        make_repository(root / "origin", endpoint)
        for clone in ("flow", "a", "b", "single"):
            git(root, "clone", "-q", "origin", clone)
        for clone in ("a", "b"):
            team.start_worker(clone)
        with prefect_harness() as address:
            team.environment["PREFECT_API_URL"] = address
            wait_for(f"{team.environment['MLFLOW_TRACKING_URI']}/health", started[0])
            yield team
    finally:
        team.release()
        for process in [*team.workers.values(), *started]:
            process.terminate()
        for process in [*team.workers.values(), *started]:
            process.wait(timeout=60)
        for process in team.stage_processes():
            process.kill()
        storage.stop()


def locked(clone: Path) -> dict[str, dict[str, str]]:
    """By stage, the hash of each input and output that does not name an MLflow run."""
    stages = YAML(typ="safe").load((clone / "dvc.lock").read_text())["stages"]
    return {
        name: {
            entry["path"]: entry["md5"]
            for entry in (*stage["deps"], *stage["outs"])
            if not entry["path"].endswith("mlflow_run.json")
        }
        for name, stage in stages.items()
    }


def test_two_workers_give_what_one_machine_gives(team):
    output = team.run_flow("--set", "tokenize.vocab_size=321")
    assert "2 workers at" in output
    assert "hello from last" in output  # what stages print is here too
    flow = team.root / "flow"
    assert (flow / "outputs/last/out/text.txt").read_text() == "one 321" * 2
    assert not (flow / "outputs/first/out").exists()  # too large to be brought home unasked
    assert {(team.control / side).read_text() for side in "ab"} == {str(team.root / c) for c in "ab"}

    single = team.root / "single"
    shutil.copy(flow / "params.yaml", single)
    (single / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    local = team.environment | {"MLFLOW_TRACKING_URI": f"sqlite:///{single}/mlflow.db"}
    command = [sys.executable, "-m", "dvc", "repro", "-q"]
    done = subprocess.run(command, cwd=single, env=local, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert locked(flow) == locked(single)

    runs = {run.data.tags.get("dvc.stage", "flow"): run for run in team.runs()}
    assert set(runs) == {"flow", "first", "last"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    parent = runs["flow"].info.run_id
    assert {runs[name].data.tags["mlflow.parentRunId"] for name in ("first", "last")} == {parent}
    note = json.loads((flow / "outputs/last/mlflow_run.json").read_text())
    assert note["run_id"] == runs["last"].info.run_id


def test_nothing_is_left_to_do_and_one_machine_fetches_the_rest(team):
    assert "Nothing to do: all 4 stages are unchanged." in team.run_flow()
    output = team.run_flow("first", cluster=False)
    assert "'first' - Finished in state Restored" in output
    assert "hello" not in output
    assert (team.root / "flow/outputs/first/out/large.bin").stat().st_size == 20_000_000


def test_a_clone_with_other_code_is_refused(team):
    (team.root / "b" / "half.py").write_text("print('edited')\n")
    process = team.start_flow("--cluster", team.scheduler, "--force")
    assert process.wait(timeout=200) == 2
    git(team.root / "b", "checkout", "-q", "half.py")
    message = team.log("flow.log").split("virtex: error: ")[-1]
    assert "b: " in message
    assert "half.py: changed, and in no commit" in message


def test_a_stage_whose_worker_dies_goes_to_the_other(team):
    team.change("two")
    (team.control / "hold").touch()
    flow = team.start_flow("--cluster", team.scheduler)
    held = team.hold()
    name = Path(held.cwd()).name
    for process in (team.workers[name], *held.children(recursive=True), held):
        process.kill()
    team.workers[name].wait()
    team.release()
    assert flow.wait(timeout=200) == 0, team.log("flow.log")
    output = team.log("flow.log")
    assert {f"last on {clone}" for clone in "ab"} <= {
        line.split(" - ")[-1].strip() for line in output.splitlines()
    }
    assert (team.root / "flow/outputs/last/out/text.txt").read_text() == "one 321" * 2 + "two"
    assert "RUNNING" not in {run.info.status for run in team.runs()}
    team.start_worker(name)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stage_whose_flow_ends_is_stopped(team, number):
    team.change(f"three {number}")
    (team.control / "hold").touch()
    flow = team.start_flow("--cluster", team.scheduler)
    team.hold()
    flow.send_signal(number)
    assert flow.wait(timeout=120) == (130 if number == signal.SIGINT else -number), team.log("flow.log")
    limit = time.monotonic() + 60
    while team.stage_processes():
        assert time.monotonic() < limit
        time.sleep(0.1)
    team.release()
    if number == signal.SIGINT:
        assert "RUNNING" not in {run.info.status for run in team.runs()}


SHARDS_YAML = """
stages:
  datasets:
    cmd: python -m components.stages.datasets
    deps: [source.txt]
    params: [download, lmdb.on_unreadable, coco_segmentation.dataset]
    outs: [data/datasets, outputs/datasets/mlflow_run.json]
  lmdb_shard:
    matrix: {shard: "${lmdb.shards}"}
    cmd: python shard.py ${item.shard}
    deps: [data/datasets/captions, data/datasets/images]
    params: [lmdb]
    outs:
      - data/lmdb/train-${item.shard}.lmdb:
          persist: true
      - outputs/lmdb_shard/${item.shard}/mlflow_run.json
  lmdb:
    matrix: {split: [train]}
    cmd: python -m components.stages.lmdb ${item.split}
    deps: [data/datasets/captions, data/datasets/images]
    params: [lmdb]
    outs: ["data/lmdb/${item.split}.lmdb"]
"""

SHARD = """
import os, runpy, sys, time
from pathlib import Path
from components.data import build

control, shard = Path(os.environ["CONTROL"]), sys.argv[1]
with (control / f"shard-{shard}").open("a") as log:
    log.write(Path.cwd().name + "\\n")
finish = build.StoreWriter.finish

def held(*arguments):  # half-way: the records are there, and nothing that makes them a store
    while shard == "1" and (control / "hold").exists():
        (control / f"held-{os.getppid()}").touch()
        time.sleep(0.1)
    finish(*arguments)

build.StoreWriter.finish = held
runpy.run_module("components.stages.lmdb_shard", run_name="__main__")
"""


@pytest.mark.slow
def test_a_lost_worker_costs_its_shard_only(team):
    origin = team.root / "origin"
    (origin / "dvc.yaml").write_text(SHARDS_YAML)
    (origin / "shard.py").write_text(SHARD)
    (origin / ".gitignore").write_text((origin / ".gitignore").read_text() + "/data/\n/params.yaml\n")
    git(origin, "rm", "-q", "--cached", "params.yaml")  # which the flow before has changed in its clone
    git(origin, "add", ".")
    git(origin, "commit", "-qm", "shards")
    for clone in ("flow", "a", "b"):
        git(team.root / clone, "fetch", "-q")
        git(team.root / clone, "reset", "-q", "--hard", "origin/main")
        shutil.copy(origin / "params.yaml", team.root / clone)
    team.release()
    (team.control / "hold").touch()
    sizes = {
        "train": 60,
        "val": 4,
        "voc_trainval": 60,
        "voc_test": 24,
        "imagenet_train": 2,
        "imagenet_val": 1,
    }
    sizes |= {"inaturalist_train": 3, "inaturalist_val": 1}
    settings = [f"download.drawn_world.{name}_images={count}" for name, count in sizes.items()]
    changes = [word for setting in (*settings, "lmdb.shards=4") for word in ("--set", setting)]
    flow = team.start_flow("--cluster", team.scheduler, *changes)
    held = team.hold()
    lost = Path(held.cwd()).name
    limit = time.monotonic() + 240
    while (
        sum("lmdb_shard@" in line and "Completed" in line for line in team.log("flow.log").splitlines()) < 3
    ):
        assert time.monotonic() < limit, team.log("flow.log")
        time.sleep(0.2)
    for process in (team.workers[lost], *held.children(recursive=True), held):
        process.kill()
    team.workers[lost].wait()
    team.release()
    assert flow.wait(timeout=400) == 0, team.log("flow.log")
    builders = [(team.control / f"shard-{number}").read_text().split() for number in range(4)]
    assert [len(names) for names in builders] == [1, 2, 1, 1]
    assert set(builders[1]) == {"a", "b"}
    team.run_flow(cluster=False)  # brings the stores home
    code = (
        "from pathlib import Path; from components.data.store import CaptionStore\n"
        "store = CaptionStore(Path('data/lmdb/train.lmdb'))\n"
        "print(store.num_shards, len(list(store)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=team.root / "flow",
        env=team.environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["4", "60"], done.stderr
    team.start_worker(lost)
