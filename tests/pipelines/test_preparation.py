"""What precedes every run, and what a crashed one leaves."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines import prefect_runs, preparation
from pipelines.prefect_runs import clear_up_after
from pipelines.preparation import clear_up, prepare
from pipelines.workspace import STATE_DIR, note_group, run_lock

REPOSITORY = Path(__file__).resolve().parents[2]
DVC_YAML = """
stages:
  voc07:
    matrix: {backbone: [virtex, random]}
    cmd: echo 1 > outputs/benchmarks/voc07/${item.backbone}/metrics.json
    deps: [source.txt]
    outs: ["outputs/benchmarks/voc07/${item.backbone}/metrics.json"]
    meta: {may_fail: true}
  report:
    cmd: find outputs/benchmarks/voc07 -type f | wc -l > report.txt
    deps: [outputs/benchmarks/voc07]
    outs: [report.txt]
"""
HOLDER = {"pid": 4194301, "started": "2026-11-25 10:00:00", "flow_run": None}
DEAD_GROUP = 4194302


@pytest.fixture
def repository(tmp_path, monkeypatch):
    from dvc.repo import Repo

    Repo.init(str(tmp_path), no_scm=True).close()
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "source.txt").write_text("one")
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prepared(root, *overrides):
    with run_lock(root):
        return prepare(root, overrides=overrides)


def test_results_of_other_data_go_and_the_report_is_made_again(repository):
    from dvc.repo import Repo

    for backbone in ("virtex", "random"):
        (repository / "outputs" / "benchmarks" / "voc07" / backbone).mkdir(parents=True)
    with Repo(str(repository)) as repo:
        repo.reproduce()
    assert (repository / "report.txt").read_text().strip() == "2"
    assert prepared(repository)[0].pending == ()

    (repository / "source.txt").write_text("data of one's own")
    plan, notices = prepared(
        repository,
        "download.drawn_world.voc_trainval_images=0",
        "download.drawn_world.voc_test_images=0",
        "select.by=last",
    )
    assert notices[-1] == "Not run: voc07@random, voc07@virtex (this run has no `voc2007` data)."
    assert plan.pending == ("report",)
    assert not list((repository / "outputs").rglob("*.json"))
    assert (repository / "outputs" / "benchmarks" / "voc07").is_dir()


def test_links_into_a_cache_that_is_gone_stop_no_run(repository):
    from dvc.repo import Repo

    (repository / ".dvc" / "config").write_text("[core]\n  no_scm = True\n[cache]\n  type = symlink\n")
    for backbone in ("virtex", "random"):
        (repository / "outputs" / "benchmarks" / "voc07" / backbone).mkdir(parents=True)
    with Repo(str(repository)) as repo:
        repo.reproduce()
    shutil.rmtree(repository / ".dvc" / "cache")
    plan, notices = prepared(repository)
    first = "outputs/benchmarks/voc07/virtex/metrics.json"
    assert f"Removed 3 links ({first} and others): DVC's cache has lost what they led to." in notices
    assert plan.pending == ("voc07@virtex", "voc07@random", "report")
    with Repo(str(repository)) as repo:
        repo.reproduce()
    assert (repository / "report.txt").read_text().strip() == "0"  # of links, which `find` counts as such


@pytest.mark.parametrize("left", ["", '{"write": {"/a": {"pid": 1'])
def test_what_a_killed_dvc_left_half_written_stops_no_later_run(repository, left):
    (repository / ".dvc" / "tmp").mkdir(exist_ok=True)
    rwlock = repository / ".dvc" / "tmp" / "rwlock"
    rwlock.write_text(left)
    assert "Removed .dvc/tmp/rwlock, which a killed DVC had left half-written." in prepared(repository)[1]
    rwlock.write_text("{}")
    assert not any("rwlock" in notice for notice in prepared(repository)[1])


def test_a_fresh_workspace_has_the_folder_that_the_report_asks_for(repository):
    overrides = ("voc_trainval_images=0", "voc_test_images=0")
    plan, _ = prepared(repository, *(f"download.drawn_world.{one}" for one in overrides), "select.by=last")
    assert plan.pending == ("report",)
    assert (repository / "outputs" / "benchmarks" / "voc07").is_dir()


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """One whose last run has crashed; what is checked out and how often MLflow's runs are closed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / STATE_DIR).mkdir()
    (tmp_path / STATE_DIR / "run.lock").write_text(json.dumps(HOLDER))
    done = SimpleNamespace(root=tmp_path, checked_out=[], closed=0)

    def close():
        done.closed += 1
        return ["Closed 2 MLflow runs of it."]

    monkeypatch.setattr(preparation, "check_out", done.checked_out.extend)
    monkeypatch.setattr(preparation, "_close_mlflow_runs", close)
    return done


def cleared(root):
    with run_lock(root):
        return clear_up(root)


def test_a_dead_run_is_cleared_up_after_once(workspace):
    note_group(workspace.root, "lmdb@train", DEAD_GROUP)  # gone with its run, as when the machine does
    crashed = "The run before this one (process 4194301, started 2026-11-25 10:00:00) crashed."
    assert cleared(workspace.root) == [crashed, "Closed 2 MLflow runs of it."]
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

    monkeypatch.setattr(preparation, "check_out", refuse)
    note_group(workspace.root, "select", DEAD_GROUP)
    assert "The earlier outputs of select could not all be put back: the cache lacks it" in cleared(
        workspace.root
    )


@pytest.mark.parametrize("is_cancelling", [True, False])
def test_the_webhook_hears_of_a_dead_flow(workspace, monkeypatch, is_cancelling):
    told = []
    monkeypatch.setattr(prefect_runs, "notify", told.append)
    monkeypatch.setattr(prefect_runs, "get_client", None)  # and the server is away
    flow_run = SimpleNamespace(id=None, name="demo")
    state = SimpleNamespace(is_cancelling=lambda: is_cancelling, message="out of memory")
    clear_up_after(None, flow_run, state)
    clear_up_after(None, flow_run, state)
    (message,) = told
    assert (message["run"], message["state"]) == ("demo", "cancelled" if is_cancelling else "failed")
    assert message["errors"] == {"run": "its process crashed; out of memory"}


def test_the_hook_leaves_a_run_at_work_alone(workspace, monkeypatch):
    monkeypatch.setattr(prefect_runs, "clear_up", None)
    with run_lock(workspace.root):
        clear_up_after(None, SimpleNamespace(id=None, name="demo"), None)
