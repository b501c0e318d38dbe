"""What is stale and why, and what DVC's cache has, on a small repository."""

import contextlib
import shutil
from pathlib import Path

import pytest

from pipelines.status import state
from pipelines.status.state import Reason, stage_states, stale_in_lock

DVC_YAML = """
stages:
  first:
    cmd: python make.py source.txt first.txt
    deps: [source.txt, make.py]
    params: [numbers.a, letters]
    outs: [first.txt]
  part:
    matrix: {half: [a, b]}
    cmd: python make.py first.txt part-${item.half}.txt
    deps: [first.txt, make.py]
    outs: ["part-${item.half}.txt"]
  last:
    cmd: cat part-a.txt part-b.txt > last.txt
    deps: [part-a.txt, part-b.txt]
    outs: [last.txt]
"""
PARAMS = "numbers: {a: 1, b: 2}\nletters: {x: one, y: two}\n"
MAKE = "import shutil, sys; shutil.copy(*sys.argv[1:])"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    from dvc.repo import Repo

    root = tmp_path_factory.mktemp("finished")
    Repo.init(str(root), no_scm=True).close()
    for name, text in {
        "dvc.yaml": DVC_YAML,
        "params.yaml": PARAMS,
        "make.py": MAKE,
        "source.txt": "one",
    }.items():
        (root / name).write_text(text)
    with contextlib.chdir(root), Repo(str(root)) as repo:
        repo.reproduce()
    return root


@pytest.fixture
def repository(finished, tmp_path, monkeypatch):
    root = tmp_path / "repository"
    shutil.copytree(finished, root, symlinks=True)
    monkeypatch.chdir(root)
    return root


def stale():
    return {found.stage.name: found for found in stage_states() if found.is_stale}


def test_nothing_is_stale(repository):
    assert [found.stage.name for found in stage_states()] == ["first", "part@a", "part@b", "last"]
    assert not stale()


def test_a_lock_is_stale_by_what_made_it_and_not_by_what_is_not_here(repository, monkeypatch):
    """A colleague's clone before `dvc pull`, and in CI: neither outputs nor a cache."""
    monkeypatch.setattr(state, "check_params", dict)
    monkeypatch.setattr(state, "reasons_not_run", lambda _: {})
    shutil.rmtree(".dvc/cache")
    for made in ("first.txt", "part-a.txt", "part-b.txt", "last.txt"):
        Path(made).unlink()
    assert stale_in_lock() == ()
    Path("params.yaml").write_text(PARAMS.replace("a: 1", "a: 2"))
    assert stale_in_lock() == ("first", "part@a", "part@b", "last")
    Path("params.yaml").write_text(PARAMS)
    Path("source.txt").write_text("two")
    assert stale_in_lock(["part@a"]) == ("first", "part@a")


def test_each_kind_of_change_has_its_reason(repository):
    (repository / "params.yaml").write_text("numbers: {a: 3, b: 4}\nletters: {x: one, z: new}\n")
    (repository / "source.txt").write_text("two")
    states = stale()
    assert states["first"].reasons == (
        Reason("params", ("numbers.a 1 -> 3", "letters.z (none) -> new", "letters.y two -> (none)")),
        Reason("data", ("source.txt",)),
    )
    assert states["part@a"].reasons == ()
    assert states["part@a"].after == ("first",)
    assert states["last"].after == ("part@a", "part@b")


def test_code_command_and_missing_files(repository):
    (repository / "make.py").write_text(MAKE + "\n# another comment")
    (repository / "dvc.yaml").write_text(DVC_YAML.replace("cat ", "cat  "))
    (repository / "part-b.txt").unlink()
    states = stale()
    assert states["first"].reasons == (Reason("code", ("make.py",)),)
    assert states["part@b"].reasons == (
        Reason("code", ("make.py",)),
        Reason("outputs", ("part-b.txt is missing",)),
    )
    assert states["last"].reasons == (Reason("command"), Reason("data", ("part-b.txt is missing",)))


def test_a_stage_that_was_never_run_says_only_that(repository):
    (repository / "dvc.lock").unlink()
    assert {state.reasons for state in stale().values()} == {(Reason("never run"),)}


def test_what_the_cache_has_is_known_through_the_whole_graph(repository):
    from dvc.repo import Repo

    (repository / "source.txt").write_text("two")
    assert not any(state.is_in_cache for state in stale().values())
    with Repo(str(repository)) as repo:
        repo.reproduce()
    (repository / "source.txt").write_text("one")
    for name in ("first.txt", "part-a.txt", "part-b.txt", "last.txt"):
        (repository / name).unlink()
    states = stale()
    assert len(states) == 4
    assert all(state.is_in_cache for state in states.values())
    (repository / "make.py").write_text(MAKE + "\n# never seen")
    assert [name for name, state in stale().items() if state.is_in_cache] == []


def test_asking_changes_nothing(repository):
    (repository / "source.txt").write_text("two")
    before = {path: path.read_bytes() for path in repository.glob("*") if path.is_file()}
    assert stale()
    assert before == {path: path.read_bytes() for path in repository.glob("*") if path.is_file()}


def test_answers_while_dvc_is_at_work(repository):
    from dvc.repo import Repo

    (repository / "source.txt").write_text("two")
    with Repo(str(repository)) as repo, repo.lock:
        assert "first" in stale()
