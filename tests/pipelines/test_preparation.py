"""What is said and done before a run whose benchmarks lack their data."""

import shutil
from pathlib import Path

import pytest

from pipelines.preparation import prepare
from pipelines.workspace import run_lock

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


def test_a_fresh_workspace_has_the_folder_that_the_report_asks_for(repository):
    overrides = ("voc_trainval_images=0", "voc_test_images=0")
    plan, _ = prepared(repository, *(f"download.drawn_world.{one}" for one in overrides), "select.by=last")
    assert plan.pending == ("report",)
    assert (repository / "outputs" / "benchmarks" / "voc07").is_dir()
