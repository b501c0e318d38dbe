"""What pipelines.dvc_internals takes for granted of DVC, held against the release that is installed."""

import contextlib
import hashlib
import inspect
import json
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

from components.core.dvc_cache import all_objects, cache_folder, object_path, with_members
from components.core.errors import InputError
from components.core.stage_lock import WAITED
from pipelines.dvc_files import read_entries
from pipelines.dvc_internals import read_plan

REPOSITORY = Path(__file__).resolve().parents[2]
DVC_YAML = """
stages:
  one:
    cmd: mkdir folder && cp source.txt folder/a.txt
    deps: [source.txt]
    params: [numbers.a]
    outs: [folder]
    meta: {retries: 1}
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    from dvc.repo import Repo

    Repo.init(str(tmp_path), no_scm=True).close()
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "params.yaml").write_text("numbers: {a: 1}\n")
    (tmp_path / "source.txt").write_text("one")
    monkeypatch.chdir(tmp_path)
    with contextlib.chdir(tmp_path), Repo(str(tmp_path)) as repo:
        repo.reproduce()
    return tmp_path


def test_the_release_is_the_pinned_one():
    (pinned,) = re.findall(r"^dvc==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.M)
    assert version("dvc") == pinned


@pytest.mark.parametrize(
    ("place", "parameters"),
    [
        ("dvc.repo.reproduce:get_active_graph", ["graph"]),
        ("dvc.repo.reproduce:plan_repro", ["graph", "stages"]),
        ("dvc.repo.reproduce:collect_stages", ["repo", "targets", "recursive", "glob"]),
        ("dvc.stage:Stage.changed", ["self", "allow_missing", "upstream"]),
        ("dvc.stage:Stage.changed_stage", ["self"]),
        ("dvc.stage:Stage.outs_cached", ["self"]),
        ("dvc.stage.cache:StageCache._load", ["self", "stage"]),
        ("dvc.stage.cache:StageCache._create_stage", ["self", "cache", "wdir"]),
        ("dvc.output:Output._get_hash_meta", ["self"]),
        ("dvc.output:Output.changed_cache", ["self"]),
        ("dvc.dependency.param:ParamsDependency.read_params", ["self", "flatten"]),
        ("dvc.lock:Lock.lock", ["self"]),
        ("dvc.utils.serialize:modify_yaml", ["path", "fs"]),
    ],
)
def test_a_function_is_there_and_takes_these(place, parameters):
    module, _, name = place.partition(":")
    found = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    assert list(inspect.signature(found).parameters)[: len(parameters)] == parameters


def test_a_stage_has_what_is_read_of_it(repository):
    from dvc.repo import Repo
    from dvc.repo.reproduce import get_active_graph

    with Repo(str(repository), _wait_for_lock=True) as repo, repo.lock:
        (node,) = get_active_graph(repo.index.graph)
        assert (node.addressing, node.is_data_source, node.always_changed) == ("one", False, False)
        assert node.meta == {"retries": 1}
        file, params = sorted(node.deps, key=lambda dep: hasattr(dep, "params"))
        assert (str(file), file.fs_path, file.hash_name) == ("source.txt", f"{repository}/source.txt", "md5")
        assert params.params == ["numbers.a"]
        assert params.hash_info.value == {"numbers.a": 1}
        assert params.read_params(flatten=False) == {"numbers": {"a": 1}}
        (out,) = node.outs
        assert (out.exists, out.use_cache, bool(out.hash_info)) == (True, True, True)
        assert repo.config["core"].get("remote") is None


def test_the_cache_is_laid_out_as_files_named_by_their_md5(repository):
    cache = cache_folder(repository)
    (entry,) = read_entries(repository, ["one"]).values()
    assert set(entry) == {"cmd", "deps", "params", "outs"}
    (out,) = entry["outs"]
    assert (out["path"], out["size"], out["nfiles"]) == ("folder", 3, 1)
    names = with_members(cache, [out["md5"]])
    assert sorted(names) == all_objects(cache)
    for name in names:
        content = object_path(cache, name).read_bytes()
        assert hashlib.md5(content).hexdigest() == name.removesuffix(".dir")
    assert json.loads(object_path(cache, out["md5"]).read_bytes())[0]["relpath"] == "a.txt"


@pytest.mark.parametrize(("level", "place"), [(None, "."), ("project", "elsewhere"), ("local", "../far")])
def test_the_cache_is_where_dvc_has_it(repository, level, place):
    if level:
        folder = str(Path(place))
        dvc = [sys.executable, "-m", "dvc"]
        subprocess.run([*dvc, "cache", "dir", f"--{level}", folder], check=True, capture_output=True)
    said = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True)
    assert cache_folder(repository).resolve() == Path(said.stdout.strip()).resolve()


def test_dvc_says_how_long_it_waited_for_its_lock(repository):
    import zc.lockfile

    lock = zc.lockfile.LockFile(repository / ".dvc" / "tmp" / "lock")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.dvc_internals", "repro"],
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
        )
    finally:
        lock.close()
    assert done.returncode != 0
    assert "Unable to acquire lock" in done.stderr
    assert WAITED in done.stdout


def test_the_time_that_dvc_tries_is_a_setting_of_its_module():
    import dvc.lock

    assert dvc.lock.DEFAULT_TIMEOUT == 3
    assert "DEFAULT_TIMEOUT" in inspect.getsource(dvc.lock.Lock)


CONFLICT = "<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> other\n"
RESTORE = "`git checkout dvc.lock`, or remove it: what was made is then found in DVC's cache"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("dvc.lock", "", f"dvc.lock: expected sections of keys at the top level, found nothing; {RESTORE}"),
        ("dvc.lock", CONFLICT, "dvc.lock: line 1: a conflict that Git has marked; keep one side there"),
        ("dvc.lock", "[1]", f"found list; {RESTORE}"),
        ("dvc.lock", "a: caf\xe9\n", f"dvc.lock: line 1: not UTF-8 text; save it as UTF-8; {RESTORE}"),
        ("dvc.lock", f"a: {'[' * 3000}{']' * 3000}", "dvc.lock: "),
        ("dvc.lock", "stages: {}\n", "dvc.lock: not as DVC writes it (`schema`, and `stages` by name)"),
        ("dvc.lock", '{"a":' * 100_000, "dvc.lock: nested too deeply; expected at most 50 levels; `git"),
        ("dvc.lock", "schema: '2.0'\nstages: x\n", "dvc.lock: not as DVC writes it"),
        ("dvc.lock", "schema: '2.0'\nstages: {one: [1]}\n", "dvc.lock: the entry of `one` is not as DVC"),
        ("dvc.lock", None, "dvc.lock: a folder; expected a YAML file that you may read; `git checkout"),
        ("dvc.yaml", "", "dvc.yaml: no stages; `git checkout dvc.yaml` restores it"),
        ("dvc.yaml", "stages: {}\n", "dvc.yaml: no stages; `git checkout dvc.yaml` restores it"),
        ("dvc.yaml", CONFLICT, "dvc.yaml: line 1: a conflict that Git has marked; keep one side there"),
        ("dvc.yaml", f"a: {'[' * 3000}{']' * 3000}", "dvc.yaml: "),
        ("dvc.yaml", "[" * 100_000, "dvc.yaml: nested too deeply; expected at most 50 levels"),
        ("dvc.yaml", "# caf\xe9\n", "dvc.yaml: line 1: not UTF-8 text; save it as UTF-8"),
        ("dvc.yaml", "stages: {one: {cmd: 3}}\n", "dvc.yaml: "),
        (".dvc/tmp/rwlock", "", ".dvc/tmp/rwlock: damaged; remove it once no DVC command is at work here"),
        (".dvc/tmp/rwlock", '{"a', ".dvc/tmp/rwlock: damaged; remove it once no DVC command is at work here"),
        (".dvc/config", "[core", ".dvc/config: "),
        (".dvc/config", "[core]\n  nonsense = 1\n", ".dvc/config: "),
    ],
)
def test_a_damaged_file_of_dvc_is_named_with_what_to_do(repository, name, content, expected):
    path = repository / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.mkdir() if content is None else path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError) as caught:
        read_plan()
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_an_empty_lock_of_dvc_is_free(repository):
    (repository / ".dvc" / "tmp" / "lock").write_text("")
    assert read_plan().unchanged == {"one"}
