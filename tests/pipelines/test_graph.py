"""The graph as DVC plans it, on a small repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.core.errors import InputError
from components.params import overlay
from pipelines.dvc_internals import check_out, read_plan
from pipelines.status.state import Reason, stage_states

REPOSITORY = Path(__file__).resolve().parents[2]
DVC_YAML = """
stages:
  first:
    cmd: cp source.txt first.txt
    deps: [source.txt]
    outs: [first.txt]
  part:
    matrix: {half: [a, b]}
    cmd: cp first.txt part-${item.half}.txt
    deps: [first.txt]
    outs: ["part-${item.half}.txt"]
    meta: {deadline: 5min, tags: [quick]}
  last:
    cmd: cat part-a.txt part-b.txt > last.txt
    deps: [part-a.txt, part-b.txt]
    outs: [last.txt]
  alone:
    cmd: echo x > alone.txt
    outs: [alone.txt]
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    from dvc.repo import Repo

    Repo.init(str(tmp_path), no_scm=True).close()
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "source.txt").write_text("one")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_whole_plan(repository):
    plan = read_plan()
    stages = {stage.name: stage for stage in plan.stages}
    assert set(stages) == {"first", "part@a", "part@b", "last", "alone"}
    assert stages["last"].upstream == ("part@a", "part@b")
    assert stages["part@a"].upstream == ("first",)
    assert stages["part@a"].outs == ("part-a.txt",)
    assert stages["part@a"].meta.deadline == 300
    assert stages["part@a"].meta.tags == ("quick",)
    names = [stage.name for stage in plan.stages]
    assert all(names.index(up) < names.index(s.name) for s in plan.stages for up in s.upstream)
    assert set(plan.pending) == set(stages)


def test_targets(repository):
    assert {stage.name for stage in read_plan(["part@a"]).stages} == {"first", "part@a"}
    assert {stage.name for stage in read_plan(["part"]).stages} == {"first", "part@a", "part@b"}
    assert {stage.name for stage in read_plan(["part@*b"]).stages} == {"first", "part@b"}


def test_a_stage_that_dvc_always_runs_is_unchanged_while_the_data_are(repository, monkeypatch):
    from dvc.repo import Repo

    (repository / "dvc.yaml").write_text(
        DVC_YAML.replace("deps: [source.txt]", "deps: [data/sources.json]")
        + """
  sources:
    cmd: python -m components.stages.sources
    always_changed: true
    outs: [{data/sources.json: {persist: true}}]
""".replace("cp source.txt", "cp data/sources.json")
    )
    shutil.copy(REPOSITORY / "params.yaml", repository)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    (repository / "mine").mkdir()
    (repository / "mine" / "a.txt").write_text("A dog.")
    overlay(None, ["download.source=folders", "download.folders.captions.mine=mine", "caption.dataset=mine",
                   "select.by=val_loss"])  # fmt: skip
    assert "sources" in read_plan().pending
    with Repo(str(repository)) as repo:
        repo.reproduce()
    assert read_plan().pending == ()
    (repository / "mine" / "a.txt").write_text("A cat.")
    assert set(read_plan().pending) == {"sources", "first", "part@a", "part@b", "last"}
    (state, *_) = [state for state in stage_states() if state.stage.name == "sources"]
    assert state.reasons == (Reason("data", ("download.folders.captions.mine",)),)


def test_a_stage_without_data_is_not_run_and_no_change_for_others(repository):
    from dvc.repo import Repo

    with Repo(str(repository)) as repo:
        repo.reproduce(["part@a"])
    reasons = {"part": "no data"}
    plan = read_plan(reasons=reasons)
    assert plan.not_run == {"part@a": "no data", "part@b": "no data"}
    assert plan.unchanged == {"first", "part@a"}  # which has the empty results that dvc repro leaves
    assert set(plan.pending) == {"last", "alone"}
    states = {state.stage.name: state for state in stage_states(not_run=reasons)}
    assert states["part@b"].not_run == "no data"
    assert not states["part@b"].is_stale
    (repository / "source.txt").write_text("two")
    assert read_plan(reasons=reasons).unchanged == set()
    states = {state.stage.name: state for state in stage_states(not_run=reasons)}
    assert states["first"].is_stale


def test_unchanged_follows_the_graph(repository):
    from dvc.repo import Repo

    with Repo(str(repository)) as repo:
        repo.reproduce()
    assert read_plan().pending == ()
    (repository / "source.txt").write_text("two")
    assert set(read_plan().pending) == {"first", "part@a", "part@b", "last"}
    (repository / "source.txt").write_text("one")
    (repository / "part-b.txt").unlink()
    assert set(read_plan().pending) == {"part@b", "last"}


def test_half_written_outputs_are_put_back(repository, caplog):
    from dvc.repo import Repo

    with Repo(str(repository)) as repo:
        repo.reproduce(["first"])
    (repository / "first.txt").write_text("half-writ")
    (repository / "alone.txt").write_text("never came to its end")
    caplog.clear()
    check_out(["first", "alone"])
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []
    assert (repository / "first.txt").read_text() == "one"
    assert not (repository / "alone.txt").exists()
    with pytest.raises(InputError, match="gone"):
        check_out(["gone"])


def test_a_pipeline_copied_into_a_subfolder_is_not_ours(repository):
    (repository / "artifacts").mkdir()
    (repository / "artifacts" / "dvc.yaml").write_text("stages: {other: {cmd: echo, outs: [o]}}")
    assert "artifacts/dvc.yaml:other" not in {stage.name for stage in read_plan().stages}


@pytest.mark.parametrize(
    ("change", "targets", "message"),
    [
        (None, ["lats"], "unknown target `lats`.*first, last, part@a"),
        (
            "stages: {a: {cmd: x, outs: [a], meta: {deadline: 5}}}",
            [],
            "stage a: meta.deadline: expected a time with its unit",
        ),
        ("stages: {a: {command: x}}", [], "dvc.yaml"),
    ],
)
def test_refusals(repository, change, targets, message):
    if change:
        (repository / "dvc.yaml").write_text(change)
    with pytest.raises(InputError, match=message):
        read_plan(targets)


def test_not_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="dvc init"):
        read_plan()


def test_git_is_gone(tmp_path, monkeypatch):
    from dvc.repo import Repo

    subprocess.run(["git", "init", "-q", "."], cwd=tmp_path, check=True)
    Repo.init(str(tmp_path)).close()
    shutil.rmtree(tmp_path / ".git")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"not a git repository.*git clone"):
        read_plan()


def test_the_report_waits_for_the_benchmark_of_every_backbone(repository):
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(REPOSITORY / name, repository / name)
    overlay(None, ["baseline.sources={random: random, mine: a/b.pth}", "benchmarks.backbones=[virtex, mine]"])
    upstream = {stage.name: set(stage.upstream) for stage in read_plan().stages}
    assert {"voc07@virtex", "voc07@mine"} <= upstream["report"]
    assert upstream["voc07@mine"] == {"datasets", "baseline@mine"}
    assert "voc07@random" not in upstream
