"""A family through the real flow on a small repository: two rows side by side, one that fails.

The tests build on each other in file order.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from workspaces import REPOSITORY, Workspace

pytestmark = pytest.mark.integration  # one story: in order, in one worker (`--dist loadfile`)

DVC_YAML = """
stages:
  prepare:
    cmd: python stage.py prepare
    deps: [stage.py, source.txt]
    params: [tokenize.vocab_size]
    outs: [outputs/prepare/out.txt]
  pretrain:
    cmd: python stage.py pretrain
    deps: [outputs/prepare/out.txt]
    params: [objective, pretrain.seed]
    outs: [outputs/pretrain/out.txt]
    metrics: [outputs/pretrain/metrics.json]
  voc07:
    matrix: {backbone: [virtex, random]}
    cmd: python stage.py voc07 ${item.backbone}
    deps: [outputs/pretrain/out.txt]
    metrics: ["outputs/benchmarks/voc07/${item.backbone}/metrics.json"]
"""

STAGE = """
import json, os, sys, time
from pathlib import Path

name, item = sys.argv[1], (sys.argv[2:] or [""])[0]
control = Path(os.environ["CONTROL"])
workspace = Path.cwd().name
with (control / "ran.txt").open("a") as file:
    file.write(f"{workspace} {name} {item}\\n")
folder = Path("outputs", *(["benchmarks"] if name == "voc07" else []), name, item)
folder.mkdir(parents=True, exist_ok=True)
if name == "pretrain" and workspace == "captioning" and (control / "fail").exists():
    sys.exit("the loss is not a number")
if name == "pretrain" and (control / "sleep").exists():
    (control / f"sleeping-{workspace}").touch()
    time.sleep(600)
if name in ("prepare", "pretrain"):
    (folder / "out.txt").write_text(Path("source.txt").read_text() + workspace * (name == "pretrain"))
if name == "pretrain":
    (folder / "metrics.json").write_text(json.dumps({"val_loss": 2.5, "images_per_second": 10.0}))
if name == "voc07":
    figure = {"virtex": 20.5, "random": 15.25}[item]
    (folder / "metrics.json").write_text(json.dumps({"mAP": figure, "num_test": 9}))
"""


class Family(Workspace):
    """Its rows are started by ``virtex ablate``."""

    def __init__(self, root: Path, prefect_url: str) -> None:
        self.control = root.parent / "control"
        self.control.mkdir()
        super().__init__(root, prefect_url, CONTROL=str(self.control))

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        family = [] if arguments[0] == "seeds" else ["tasks"]
        return self.start_module("pipelines.cli", "ablate", *family, *arguments, **variables)

    def run(self, *arguments: str, **variables: str) -> tuple[int, str]:
        rows = [] if arguments[:1] == ("seeds",) else ["--rows", "bicaptioning", "captioning"]
        return super().run(*arguments, *rows, **variables)

    def start_and_wait(self, override: str) -> subprocess.Popen[str]:
        """Start two rows side by side; return while both of them sleep."""
        rows = ("--rows", "bicaptioning", "captioning", "--at-once", "2", "--set", override)
        process = self.start(*rows)
        limit = time.monotonic() + 600
        while len(list(self.control.glob("sleeping-*"))) < 2:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < limit
            time.sleep(0.1)
        for note in self.control.glob("sleeping-*"):
            note.unlink()
        return process

    def ran(self) -> list[str]:
        """Stages that really ran since the last call, as ``workspace stage item``."""
        path = self.control / "ran.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return sorted(line.strip() for line in lines)

    def row(self, name: str) -> Path:
        return self.root / ".virtex" / "workspaces" / "tasks" / name

    def comparison(self, family: str = "tasks") -> dict:
        folder = self.root / "outputs" / "ablations" / family
        assert (folder / "comparison.png").stat().st_size > 10_000
        assert len((folder / "comparison.csv").read_text().splitlines()) >= 2
        return json.loads((folder / "comparison.json").read_text())

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=True).stdout

    def experiments(self) -> dict[str, dict]:
        """What ``dvc exp show`` lists, by name: figures and parameters."""
        (_, commit) = json.loads(self.dvc("exp", "show", "--json").stdout)
        found = [one["revs"][0] for one in commit["experiments"] or []]
        return {one["name"]: one["data"] for one in found}

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if Path(process.cwd()).is_relative_to(self.root) and process.status() != "zombie":
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def mlflow_runs(self) -> dict[str, list]:
        """Runs by the flow they belong to, oldest first."""
        found: dict[str, list] = {}
        for run in reversed(self.runs()):
            found.setdefault(run.data.tags["virtex.flow"], []).append(run)
        return found


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, prefect_harness):
    root = tmp_path_factory.mktemp("family") / "repository"
    root.mkdir()
    shutil.copy(REPOSITORY / "params.yaml", root)
    for name, text in (("dvc.yaml", DVC_YAML), ("stage.py", STAGE), ("source.txt", "one ")):
        (root / name).write_text(text)
    (root / ".gitignore").write_text("/outputs/\n/.virtex/\n/mlflow.db*\n/mlartifacts/\n")
    (root / ".dvcignore").write_text("mlartifacts\n.virtex\n")
    with prefect_harness() as address:
        workspace = Family(root, address)
        workspace.git("init", "-q")
        workspace.dvc("init", "-q")
        workspace.git("add", "-A")
        workspace.git("commit", "-qm", "first")
        yield workspace
    for process in workspace.processes():
        process.kill()


def test_a_failed_row_does_not_stop_its_sibling(workspace):
    (workspace.root / "source.txt").write_text("changed and not committed ")
    (workspace.control / "fail").touch()
    status = workspace.git("status", "--porcelain")
    code, output = workspace.run("--at-once", "2")
    (workspace.control / "fail").unlink()
    assert code == 1, output
    assert workspace.ran() == [
        *("bicaptioning prepare", "bicaptioning pretrain", "bicaptioning voc07 random"),
        *("bicaptioning voc07 virtex", "captioning pretrain"),  # what they share was done once
    ]
    made = workspace.row("bicaptioning") / "outputs" / "pretrain" / "out.txt"
    assert made.read_text() == "changed and not committed bicaptioning"
    good, bad = workspace.comparison()["rows"]
    assert (good["state"], bad["state"]) == ("ran", "failed")
    assert (good["figures"], good["gains"]) == ({"voc07.mAP": 20.5}, {"voc07.mAP": 5.25})
    assert good["pretraining"]["val_loss"] == 2.5
    assert good["published"]["voc07.mAP"] == 88.7
    assert not good["comparable"]
    assert bad["figures"] == {}
    assert "the loss is not a number" in bad["message"]
    assert "| Bicaptioning " in output
    assert "Forward captioning, failed: " in output
    assert workspace.git("status", "--porcelain") == status
    assert not (workspace.root / "outputs" / "pretrain").exists()
    assert "tasks-captioning" not in workspace.git("for-each-ref", "refs/exps")


def test_runs_in_mlflow(workspace):
    runs = workspace.mlflow_runs()
    (family,) = runs["ablation"]
    assert family.info.status == "FAILED"
    assert family.data.metrics["bicaptioning/voc07.mAP"] == 20.5
    rows = {run.info.run_name.split(" · ")[0]: run for run in runs["virtex"]}
    assert {"tasks/bicaptioning", "tasks/captioning"} <= set(rows)
    assert {run.data.tags["mlflow.parentRunId"] for run in rows.values()} == {family.info.run_id}


def test_again_only_what_failed_is_done(workspace):
    code, output = workspace.run()
    assert code == 0, output
    assert workspace.ran() == ["captioning pretrain", "captioning voc07 random", "captioning voc07 virtex"]
    assert [row["state"] for row in workspace.comparison()["rows"]] == ["unchanged", "ran"]
    shown = workspace.experiments()
    assert shown.keys() == {"tasks-bicaptioning", "tasks-captioning"}
    row = shown["tasks-captioning"]
    assert row["metrics"]["outputs/pretrain/metrics.json"]["data"]["val_loss"] == 2.5
    assert row["params"]["params.yaml"]["data"]["objective"]["name"] == "captioning"
    code, output = workspace.run()
    assert code == 0, output
    assert "captioning    to do: nothing" in output
    assert workspace.ran() == []
    assert [row["state"] for row in workspace.comparison()["rows"]] == ["unchanged", "unchanged"]
    assert len(workspace.mlflow_runs()["ablation"]) == 2


def test_ctrl_c_stops_all_rows_and_keeps_what_they_had(workspace):
    (workspace.control / "sleep").touch()
    process = workspace.start_and_wait("pretrain.seed=1")
    assert "another run is at work" in workspace.run()[1]
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    (workspace.control / "sleep").unlink()
    assert process.returncode == 130, output
    assert workspace.processes() == []
    assert [row["state"] for row in workspace.comparison()["rows"]] == ["stopped", "stopped"]
    assert [row["figures"] for row in workspace.comparison()["rows"]] == [{}, {}]
    kept = workspace.row("bicaptioning") / "outputs" / "pretrain" / "out.txt"
    assert kept.read_text() == "changed and not committed bicaptioning"
    runs = workspace.mlflow_runs()
    assert {run.info.status for run in runs["ablation"][-1:] + runs["virtex"][-2:]} == {"KILLED"}


@pytest.mark.slow
def test_a_killed_command_is_taken_up_again(workspace):
    (workspace.control / "sleep").touch()
    process = workspace.start_and_wait("pretrain.seed=2")
    process.kill()
    process.communicate()
    (workspace.control / "sleep").unlink()
    workspace.ran()
    code, output = workspace.run("--set", "pretrain.seed=2")
    assert code == 0, output
    assert "Stopped orphaned row tasks/captioning of a crashed run." in output
    assert workspace.processes() == []
    assert [row["state"] for row in workspace.comparison()["rows"]] == ["ran", "ran"]
    assert not any(line.endswith("prepare") for line in workspace.ran())
    shown = workspace.experiments()
    assert {row["params"]["params.yaml"]["data"]["pretrain"]["seed"] for row in shown.values()} == {2}


@pytest.mark.slow
def test_the_same_run_with_several_seeds(workspace):
    code, output = workspace.run("seeds", "--seeds", "2", "--at-once", "2")
    assert code == 0, output
    (row,) = workspace.comparison("seeds")["rows"]
    assert row["runs"] == {"0": "ran", "1": "ran"}
    assert row["seeds"] == {"voc07.mAP": {"0": 20.5, "1": 20.5}}
    assert row["gain_intervals"] == {"voc07.mAP": [5.25, 5.25]}
    assert {"seeds-run", "seeds-run-seed1"} <= workspace.experiments().keys()
    assert "20.5 ± 0.0" in output
