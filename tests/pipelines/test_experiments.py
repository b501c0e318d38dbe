"""The workspace of a row, its plan, and its results as an experiment."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from components.core.errors import InputError
from components.core.files import write_json
from components.params.families import FamilyRow, chosen_family
from pipelines import experiments
from pipelines.experiments import (
    FamilyRun,
    ReadyRow,
    at_equal_time,
    bring_up_to_date,
    link_imported_backbones,
    prepare_rows,
    reach_inputs,
    save_experiment,
    share_unpacked_archives,
    shared_stages,
    workspace_dir,
)
from pipelines.graph import Plan, Stage

REPOSITORY = Path(__file__).resolve().parents[2]
STAGES = (
    Stage("download", (), (), params=("download",)),
    Stage("tokenize", ("download",), (), params=("tokenize", "textual_head.max_caption_length")),
    Stage("pretrain", ("tokenize",), (), params=("textual_head", "objective")),
    Stage("export", ("pretrain",), ()),
    Stage("baseline@random", (), (), params=("baseline.seed", "backbone")),
)


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "share_cache", lambda owner, workspace: None)
    root = tmp_path / "repository"
    (root / "code").mkdir(parents=True)
    for name in ("params.yaml", "code/kept.py", "code/changed.py", "code/deleted.py"):
        (root / name).write_text(f"# {name}\n")
    (root / ".gitignore").write_text("/.virtex/\n/outputs/\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    return root


@pytest.fixture
def workspace(root):
    folder = root / ".virtex" / "workspaces" / "tasks" / "captioning"
    folder.mkdir(parents=True)
    return folder


def test_uncommitted_changes_come_along_and_data_does_not(root, workspace):
    (root / "code" / "changed.py").write_text("# changed\n")
    (root / "code" / "deleted.py").unlink()
    (root / "code" / "new.py").write_text("# new\n")
    (root / "code" / "large.bin").write_bytes(bytes(2**20 + 1))
    (root / "photographs").mkdir()
    (root / "photographs" / "a.jpg").write_text("no code")
    before = git(root, "status", "--porcelain")
    bring_up_to_date(root, workspace)
    found = {str(path.relative_to(workspace)) for path in (workspace / "code").iterdir()}
    assert found == {"code/kept.py", "code/changed.py", "code/new.py"}
    assert (workspace / "code" / "changed.py").read_text() == "# changed\n"
    assert not (workspace / "photographs").exists()
    assert git(workspace, "rev-parse", "HEAD") == git(root, "rev-parse", "HEAD")
    changes = {line[3:] for line in git(workspace, "status", "--porcelain").splitlines()}
    assert changes == {"code/changed.py", "code/deleted.py", "code/new.py"}
    assert git(root, "status", "--porcelain") == before


def test_the_next_time_it_follows_and_keeps_what_is_its_own(root, workspace):
    bring_up_to_date(root, workspace)
    (workspace / "dvc.lock").write_text("its own")
    (workspace / "outputs").mkdir()
    (workspace / "outputs" / "model").write_text("made here")
    (workspace / "params.yaml").write_text("row: its own\n")
    unchanged = (workspace / "code" / "kept.py").stat().st_ino
    (root / "dvc.lock").write_text("the user's")
    git(root, "rm", "-q", "code/deleted.py")
    git(root, "commit", "-qm", "second")
    bring_up_to_date(root, workspace)
    assert not (workspace / "code" / "deleted.py").exists()
    assert (workspace / "code" / "kept.py").stat().st_ino == unchanged
    assert (workspace / "params.yaml").read_text() == "# params.yaml\n"
    assert (workspace / "dvc.lock").read_text() == "its own"
    assert (workspace / "outputs" / "model").read_text() == "made here"
    assert git(workspace, "rev-parse", "HEAD") == git(root, "rev-parse", "HEAD")


def lock(**stages: str) -> str:
    lines = (f"  {name}:\n    cmd: {cmd}\n" for name, cmd in stages.items())
    return "schema: '2.0'\nstages:\n" + "".join(lines)


def ready(workspace: Path) -> ReadyRow:
    return ReadyRow(FamilyRow("captioning", ""), workspace, Plan(STAGES, frozenset()))


def test_an_experiment_holds_the_rows_files_and_its_own_stages_alone(root, workspace):
    (root / "code" / "new.py").write_text("# new\n")
    (root / "dvc.lock").write_text(lock(pretrain="of the user", report="of the user"))
    bring_up_to_date(root, workspace)
    (workspace / "params.yaml").write_text("row: its own\n")
    (workspace / "dvc.lock").write_text(lock(pretrain="of the row", report="of the user"))
    (workspace / "left.txt").write_text("made here")
    before = git(root, "status", "--porcelain"), git(root, "rev-parse", "HEAD"), git(root, "branch", "-a")
    assert save_experiment(root, ready(workspace), "tasks-captioning", ["pretrain"]) is None
    after = git(root, "status", "--porcelain"), git(root, "rev-parse", "HEAD"), git(root, "branch", "-a")
    assert after == before
    head = git(root, "rev-parse", "HEAD").strip()
    (saved,) = git(root, "for-each-ref", "--format=%(refname)", "refs/exps").split()
    assert saved == f"refs/exps/{head[:2]}/{head[2:]}/tasks-captioning"
    assert git(root, "rev-parse", f"{saved}^").strip() == head
    assert git(root, "show", f"{saved}:params.yaml") == "row: its own\n"
    assert git(root, "show", f"{saved}:dvc.lock") == lock(pretrain="of the row")
    names = set(git(root, "ls-tree", "-r", "--name-only", saved).split())
    assert {"code/new.py", "code/kept.py"} < names
    assert "left.txt" not in names
    commit = git(root, "rev-parse", saved)
    save_experiment(root, ready(workspace), "tasks-captioning", ["pretrain"])
    assert git(root, "rev-parse", saved) == commit  # nothing new, nothing written
    (workspace / "params.yaml").write_text("row: another\n")
    save_experiment(root, ready(workspace), "tasks-captioning", ["pretrain"])
    assert git(root, "show", f"{saved}:params.yaml") == "row: another\n"
    bring_up_to_date(root, workspace)  # its files are its own again
    assert (workspace / "dvc.lock").read_text() == lock(pretrain="of the row", report="of the user")


def test_without_a_commit_or_with_a_secret_there_is_no_experiment(root, workspace, monkeypatch):
    bring_up_to_date(root, workspace)
    (workspace / "params.yaml").write_text("url: https://me:hunter2@host/data.csv\n")
    assert "password" in save_experiment(root, ready(workspace), "tasks-captioning", ["pretrain"])
    git(workspace, "update-ref", "-d", "HEAD")
    assert "no commit yet" in save_experiment(root, ready(workspace), "tasks-captioning", ["pretrain"])
    assert git(root, "for-each-ref", "refs/exps") == ""


def test_outside_a_git_repository_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "workspace"
    folder.mkdir()
    with pytest.raises(InputError, match="not a git repository"):
        bring_up_to_date(tmp_path, folder)


def test_paths_in_the_parameters_lead_to_the_users_files(root, workspace):
    for folder in (root / "datasets" / "coco", root.parent / "shared" / "voc", root.parent / "absolute"):
        folder.mkdir(parents=True)
    absolute = str(root.parent / "absolute")
    for file in (root / "moco.pth", root.parent / "shared" / "theirs.pth"):
        file.touch()
    folders = {"captions": {"coco": "datasets/coco"}, "voc2007": "../shared/voc", "lvis": absolute}
    tree = {
        "download": {"source": "folders", "folders": {**folders, "imagenet": "absent"}},
        "baseline": {
            "sources": {"a": "random", "b": "moco.pth#sha256=1", "c": "../shared/theirs.pth#sha256=2"}
        },
    }
    YAML().dump(tree, workspace / "params.yaml")
    overrides = reach_inputs(root, workspace)
    reached = {
        key: YAML(typ="safe").load(value) for key, _, value in (one.partition("=") for one in overrides)
    }
    shared = str(root.parent / "shared")
    assert reached["download"]["folders"] == {**folders, "imagenet": "absent", "voc2007": f"{shared}/voc"}
    sources = tree["baseline"]["sources"] | {"c": f"{shared}/theirs.pth#sha256=2"}
    assert reached["baseline"]["sources"] == sources
    for name in ("datasets/coco", "moco.pth"):
        assert os.path.samefile(workspace / name, root / name)
    assert reach_inputs(root, workspace) == overrides


def test_imported_backbones_are_there(root, workspace):
    (root / "params.yaml").write_text("baseline: {seed: 0, sources: {random: random}}\n")
    backbones = root / "outputs" / "backbones"
    backbones.mkdir(parents=True)
    for name in ("virtex", "random", "theirs"):
        (backbones / f"{name}.safetensors").write_text(name)
    link_imported_backbones(root, workspace)
    assert [path.name for path in (workspace / "outputs" / "backbones").iterdir()] == ["theirs.safetensors"]


@pytest.mark.parametrize("published", [[], ["coco", "voc2007"]])
def test_rows_with_published_datasets_unpack_them_once(root, workspace, published):
    tree = YAML(typ="safe").load(REPOSITORY / "params.yaml")
    tree["download"] |= {"source": "published" if published else "drawn_world", "published": published}
    YAML().dump(tree, workspace / "params.yaml")
    for _ in range(2):
        share_unpacked_archives(root, workspace)
    assert (root / "datasets").exists() == (workspace / "datasets").exists() == bool(published)
    if published:
        (workspace / "datasets" / "unpacked" / "coco-1").mkdir()
        assert (root / "datasets" / "unpacked" / "coco-1").is_dir()


@pytest.mark.parametrize(
    ("key", "shared"),
    [
        ("objective.name", ["download", "tokenize", "baseline@random"]),
        ("textual_head.hidden_size", ["download", "tokenize", "baseline@random"]),
        ("textual_head.max_caption_length", ["download", "baseline@random"]),
        ("backbone.name", ["download", "tokenize", "pretrain", "export"]),
        ("download.drawn_world.seed", ["baseline@random"]),
        ("voc07.folds", [stage.name for stage in STAGES]),
    ],
)
def test_shared_stages(tmp_path, key, shared):
    rows = []
    for value in (1, 2):
        workspace = tmp_path / str(value)
        workspace.mkdir()
        tree = value
        for part in reversed(key.split(".")):
            tree = {part: tree}
        YAML().dump({"lmdb": {"short_side": None}, **tree}, workspace / "params.yaml")
        rows.append(ReadyRow(FamilyRow(str(value), ""), workspace, Plan(STAGES, frozenset())))
    assert shared_stages(rows) == shared


def test_a_stage_that_only_one_row_has_is_not_shared(tmp_path):
    (tmp_path / "params.yaml").write_text("{}\n")
    plans = (Plan(STAGES, frozenset()), Plan(STAGES[:1], frozenset()))
    rows = [ReadyRow(FamilyRow(str(i), ""), tmp_path, plan) for i, plan in enumerate(plans)]
    assert shared_stages(rows) == ["download"]


def test_each_seed_has_a_workspace_with_its_seeds(root):
    shutil.copy(REPOSITORY / "params.yaml", root)
    (root / "dvc.yaml").write_text("stages:\n  pretrain:\n    cmd: 'true'\n    params: [pretrain]\n")
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").touch()
    git(root, "add", "-A")
    run = FamilyRun(root, chosen_family("seeds", num_seeds=2), overrides=["pretrain.seed=4"])
    first, second = prepare_rows(run)
    trees = [YAML(typ="safe").load(row.workspace / "params.yaml") for row in (first, second)]
    assert [row.workspace.name for row in (first, second)] == ["run", "run-seed1"]
    assert [tree["pretrain"]["seed"] for tree in trees] == [4, 5]
    assert [tree["download"]["drawn_world"]["seed"] for tree in trees] == [0, 0]
    assert second.plan.pending == ("pretrain",)


def test_at_equal_time_a_row_trains_as_long_as_the_first(tmp_path):
    family = chosen_family("tasks", ["token_classification", "masked_lm"], 2)
    # 0.4 s of processor time per iteration, 0.1 s beside other work, and 0.8 s on a GPU's clock
    for row, figures in {
        "bicaptioning": {"iterations": 1600, "seconds": 640.0, "core_seconds_per_second": 1.0},
        "token_classification": {"iterations": 1600, "seconds": 640.0, "core_seconds_per_second": 0.25},
        "masked_lm": {"iterations": 1000, "seconds": 800.0},
    }.items():
        write_json(tmp_path / workspace_dir("tasks", row) / "outputs/pretrain/metrics.json", figures)
    equal = at_equal_time(tmp_path, family)
    assert equal.name == "tasks-equal-time"
    assert {row.name: row.overrides for row in equal.rows} == {
        "token_classification": ("objective.name=token_classification", "schedule.iterations=6400"),
        "token_classification-seed1": ("objective.name=token_classification", "schedule.iterations=6400"),
        "masked_lm": ("objective.name=masked_lm", "schedule.iterations=800"),
        "masked_lm-seed1": ("objective.name=masked_lm", "schedule.iterations=800"),
    }


def test_equal_time_needs_rows_that_were_run(tmp_path):
    with pytest.raises(InputError, match=r"bicaptioning/outputs/pretrain/metrics\.json.*virtex ablate tasks"):
        at_equal_time(tmp_path, chosen_family("tasks"))
