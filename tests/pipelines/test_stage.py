"""One stage through DVC, without Prefect."""

import threading

import pytest

from pipelines.graph import read_plan
from pipelines.stage import StageRunner

pytestmark = pytest.mark.integration

DVC_YAML = """
stages:
  one:
    cmd: sh stage.sh
    deps: [stage.sh]
    outs: [out.txt, folder]
    meta: {timeout_seconds: 2}
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    from dvc.repo import Repo

    Repo.init(str(tmp_path), no_scm=True).close()
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(repository, script, force=False):
    (repository / "stage.sh").write_text("set -e\nmkdir -p folder\n" + script)
    (stage,) = read_plan().stages
    runner = StageRunner(repository, {"GREETING": "hello"}, force, threading.Event(), max_parallel=1)
    lines = []
    return runner.run(stage, lines.append), lines


def test_first_failure_leaves_nothing_behind(repository):
    outcome, _ = run(repository, "echo half > out.txt; echo half > folder/a; echo the disk is gone; exit 3")
    assert outcome.state == "failed"
    assert outcome.message.endswith("the disk is gone")
    assert not (repository / "out.txt").exists()
    assert not (repository / "folder").exists()


def test_a_stage_that_cannot_be_started_has_failed(repository):
    (repository / ".virtex").write_text("a file where a folder should be")
    outcome, _ = run(repository, "echo unreached")
    assert outcome.state == "failed"
    assert ".virtex" in outcome.message


def test_run_failure_and_deadline_keep_the_earlier_outputs(repository):
    outcome, lines = run(repository, "echo $GREETING > out.txt; echo good > folder/a; echo working")
    assert (outcome.state, outcome.message) == ("ran", "")
    assert "working" in lines
    good = (repository / "stage.sh").read_text()

    outcome, _ = run(repository, "echo half > out.txt; sleep 60")
    assert outcome.state == "failed"
    assert "deadline of 2 seconds" in outcome.message
    assert (repository / "out.txt").read_text() == "hello\n"
    assert (repository / "folder" / "a").read_text() == "good\n"

    outcome, _ = run(repository, good.removeprefix("set -e\nmkdir -p folder\n"))
    assert outcome.state == "unchanged"
    outcome, _ = run(repository, good.removeprefix("set -e\nmkdir -p folder\n"), force=True)
    assert outcome.state == "ran"
