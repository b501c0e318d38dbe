"""A checkout with its MLflow record, moved, copied and reached by another name."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
# A stage's run with an artifact and a registered model, as runs leave them.
RECORD = """
from pathlib import Path
import torch
from components.tracking import ModelCandidate, stage_run
from components.tracking.models import register_if_best
from components.tracking.store import open_store
with stage_run("export", None, {}) as run:
    run.text("hello", "notes/hello.txt")
    run.model("backbone", torch.nn.Linear(3, 2), torch.zeros(2, 3))
    run.register(ModelCandidate("backbones", "x", run.run_id, "backbone", 1.0, "mAP", "card"))
print(run.run_id)
"""
READ = """
import sys
import mlflow
from components.tracking.store import open_store
store = open_store()
run = store.client.get_run(sys.argv[1])
print(mlflow.artifacts.load_text(run.info.artifact_uri + "/notes/hello.txt"))
mlflow.pytorch.load_model("models:/backbones@best")
version = store.client.get_model_version_by_alias("backbones", "best")
print(store.client.get_logged_model(version.source.removeprefix("models:/")).status)
new = store.client.create_run(store.experiment_id).info.run_id
store.client.log_text(new, "new", "new.txt")
print(new)
"""
OPEN = "from components.tracking.store import open_store\nopen_store()"


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "VIRTEX_PARENT_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


def python(folder: Path, script: str, *arguments: str) -> tuple[list[str], str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PWD": str(folder)}
    command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def leads_to(database: Path, folder: Path) -> bool:
    """Whether any text in the database names the folder."""
    with sqlite3.connect(database) as connection:
        dump = "\n".join(connection.iterdump())
    return f"{folder}/" in dump or f"{folder.as_uri()}/" in dump


@pytest.mark.integration
def test_moved_and_copied(tmp_path: Path) -> None:
    first, second, third = (
        tmp_path / name for name in ("first/here", "second/with space, 100% é", "third/é")
    )
    first.mkdir(parents=True)
    (*_, run_id), _ = python(first, RECORD)
    second.parent.mkdir()
    first.rename(second)

    (hello, status, _), said = python(second, READ, run_id)
    assert (hello, status) == ("hello", "READY")
    assert f"MLflow's record was made in {first}; its " in said
    assert said.count("locations now lead to") == 1
    assert not first.exists()
    assert not leads_to(second / "mlflow.db", first)
    _, said = python(second, OPEN)
    assert "locations" not in said

    shutil.copytree(second, third)
    before = files(second)
    (hello, status, new), said = python(third, READ, run_id)
    assert (hello, status) == ("hello", "READY")
    assert f"MLflow's record was made in {second}; its " in said
    assert files(second) == before
    assert any(new in path for path in files(third))
    assert not leads_to(third / "mlflow.db", second)
    _, said = python(second, OPEN)  # the original stays as it is
    assert "locations" not in said
    assert leads_to(second / "mlflow.db", second)


@pytest.mark.integration
def test_what_is_no_move(tmp_path: Path) -> None:
    here, disk = tmp_path / "here", tmp_path / "disk"
    here.mkdir()
    (disk / "mlartifacts").mkdir(parents=True)
    chosen = (
        "from components.tracking.store import open_store\n"
        "client = open_store().client\n"
        f"client.create_experiment('disk', '{disk}/mlartifacts')\n"
        "client.create_experiment('bucket', 's3://bucket/mlartifacts')\n"
    )
    python(here, chosen)
    link = tmp_path / "link"
    link.symlink_to(here)
    for folder in (here, link):
        _, said = python(folder, OPEN)
        assert "locations" not in said
    assert leads_to(here / "mlflow.db", disk)
