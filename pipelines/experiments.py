"""A row of a family as an experiment of DVC's: the workspace it runs in, and its results for `dvc exp show`.

The workspace is a Git and DVC repository of its own with the files as they are now. It borrows the user's
Git objects, as `git clone --shared` does, and DVC's cache, so what one workspace has made is restored in the
next. Not `dvc exp run --temp`: there one failed benchmark throws away all figures of a row, stages have
neither GPUs of their own nor retries, relative paths lead nowhere, and each row unpacks archives for itself.
Not a Git worktree, which would leave its marks in the user's repository.
"""

import contextlib
import filecmp
import json
import os
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.core.files import read_json, write_json, write_text
from components.core.paths import BACKBONES_DIR, PARAMS, UNPACKED_DIR, stage_dir
from components.core.redaction import redacted
from components.params import CHECKSUM_MARK, PRETRAINED, Baseline, Download, overlay, read_section
from components.params.families import FAMILIES, PRESETS, Family, FamilyRow, seed_overrides
from components.params.yaml_files import load_yaml
from components.tracking.metrics import flatten
from pipelines.dvc_files import LOCK_FILE
from pipelines.dvc_internals import experiment_ref, lock_text, share_cache
from pipelines.graph import Plan
from pipelines.preparation import prepare
from pipelines.process import git, git_files
from pipelines.workspace import STATE_DIR, run_lock, stop_orphans

WORKSPACES_DIR = STATE_DIR / "workspaces"
_COPIED = STATE_DIR / "copied.json"  # in a workspace: the files that came from the user's tree
_OWN = {str(LOCK_FILE)}  # of each workspace: what its outputs were made from
_LARGEST_UNTRACKED = 2**20  # bytes; larger files that Git does not know are data, not code
_PATH_SECTIONS = ("download", "baseline")  # of params.yaml, whose values may be paths


@dataclass(frozen=True, slots=True)
class FamilyRun:
    """What is asked for.

    Attributes:
        root: the repository, whose own files stay as they are.
        family: its rows.
        preset: the base of the rows; none means params.yaml as it is.
        overrides: ``section.key=value`` changes of the base.
        targets: stages to bring up to date in each row; none means all.
        at_once: rows at a time.
    """

    root: Path
    family: Family
    preset: str | None = None
    overrides: Sequence[str] = ()
    targets: Sequence[str] = ()
    at_once: int = 1

    @property
    def base(self) -> str:
        """Return the configuration below the rows, for people."""
        base = self.preset or ("params.yaml" if self.family.name == PRESETS else "params.yaml as it is")
        return redacted(" with ".join([base, *([", ".join(self.overrides)] if self.overrides else [])]))


@dataclass(frozen=True, slots=True)
class ReadyRow:
    """A row whose workspace is up to date and planned.

    Attributes:
        row: which.
        workspace: its folder.
        plan: of the stages asked for.
    """

    row: FamilyRow
    workspace: Path
    plan: Plan


def workspace_dir(family: str, row: str | None = None) -> Path:
    """Return the folder of a family's workspaces, or of one row's, relative to the repository root."""
    return WORKSPACES_DIR / family / row if row else WORKSPACES_DIR / family


def at_equal_time(root: Path, family: Family) -> Family:
    """Return the family with as many iterations per row as take the training time of its first row.

    What an iteration takes is read from the rows that were run with equal iterations, the first seed of each:
    processor time on CPUs, which other work does not lengthen, else time on the clock.

    Raises:
        InputError: for a row that was not run so.
    """
    iterations, first = _iteration_time(root, family.name, FAMILIES[family.name].rows[0].name)

    def lengthened(row: FamilyRow) -> FamilyRow:
        _, own = _iteration_time(root, family.name, row.group)
        number = max(1, round(iterations * first / own))
        return replace(row, overrides=(*row.overrides, f"schedule.iterations={number}"))

    return replace(
        family,
        name=f"{family.name}-equal-time",
        title=f"{family.title}, at equal training time",
        rows=tuple(map(lengthened, family.rows)),
    )


def _iteration_time(root: Path, family: str, row: str) -> tuple[int, float]:
    """Return a row's iterations, and the seconds of one, from its pretraining's figures."""
    path = root / workspace_dir(family, row) / stage_dir("pretrain") / "metrics.json"
    try:
        figures = read_json(path)
        iterations = figures["iterations"]
        return iterations, figures["seconds"] * figures.get("core_seconds_per_second", 1.0) / iterations
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path}: no figures of a finished pretraining, which say what an iteration takes; first run "
            f"`virtex ablate {family} --rows {row}` with the same --preset and --set, without --equal-time"
        ) from error


def bring_up_to_date(root: Path, workspace: Path) -> None:
    """Make ``workspace`` hold the files of ``root`` with all uncommitted changes; outputs in it stay.

    To be called with the run lock of ``workspace`` held. Nothing below ``root`` changes but ``workspace``.

    Raises:
        InputError: if ``root`` is no Git and DVC repository.
    """
    wanted = _files(root)
    for name in _copied(workspace) - wanted:
        (workspace / name).unlink(missing_ok=True)
    write_json(workspace / _COPIED, sorted(wanted))
    for name in wanted:
        _copy(root / name, workspace / name)
    for name in _OWN | {".dvc/config.local"}:
        if (root / name).is_file() and not (workspace / name).exists():
            _copy(root / name, workspace / name)
    _borrow_commits(root, workspace)
    share_cache(root, workspace)


def reach_inputs(root: Path, workspace: Path) -> list[str]:
    """Let the relative paths in the workspace's params.yaml lead to the user's files.

    What lies below ``root`` is linked at the same place, so that DVC sees the same parameters; returns
    ``section={...}`` overrides that make all other paths absolute.
    """
    overrides = []
    tree = load_yaml(workspace / PARAMS)
    for section in _PATH_SECTIONS:
        reached = _reached(tree.get(section), root, workspace)
        if reached != tree.get(section):
            overrides.append(f"{section}={json.dumps(reached)}")
    return overrides


def link_imported_backbones(root: Path, workspace: Path) -> None:
    """Link the backbones that no stage makes: `virtex import` has put them into the user's tree."""
    made = {PRETRAINED, *read_section(Baseline, root / PARAMS).sources}
    for path in (root / BACKBONES_DIR).glob("*.safetensors"):
        if path.stem not in made:
            _link(path, workspace / BACKBONES_DIR / path.name)


def share_unpacked_archives(root: Path, workspace: Path) -> None:
    """Let rows with published datasets unpack into the user's folder: files of archives, named by them."""
    if read_section(Download, workspace / PARAMS).published:
        (root / UNPACKED_DIR).mkdir(parents=True, exist_ok=True)
        _link(root / UNPACKED_DIR, workspace / UNPACKED_DIR)


def _reached(value: Any, root: Path, workspace: Path) -> Any:
    if isinstance(value, dict):
        return {key: _reached(item, root, workspace) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    path, mark, checksum = value.partition(CHECKSUM_MARK)
    if Path(path).is_absolute() or not (root / path).exists():
        return value
    place = Path(os.path.normpath(path))
    if place.parts[:1] == ("..",):
        return os.path.normpath(root.absolute() / path) + mark + checksum
    _link(root / place, workspace / place)
    return value


def _link(source: Path, link: Path) -> None:
    if not link.exists():
        link.unlink(missing_ok=True)  # to something that has gone
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source.resolve())


def _files(root: Path) -> set[str]:
    """Return what Git tracks and, in the same top-level folders, what it would: new code, not data."""
    tracked = git_files(root, "--cached")
    homes = {name.split("/")[0] for name in tracked if "/" in name}
    new = {
        name
        for name in git_files(root, "--others", "--exclude-standard")
        if ("/" not in name or name.split("/")[0] in homes)
        and (root / name).lstat().st_size <= _LARGEST_UNTRACKED
    }
    return {name for name in tracked | new if (root / name).is_file() or (root / name).is_symlink()} - _OWN


def _copied(workspace: Path) -> set[str]:
    try:
        return set(read_json(workspace / _COPIED))
    except (OSError, ValueError):
        return set()


def _copy(source: Path, target: Path) -> None:
    plain = target.is_file() and not target.is_symlink() and not source.is_symlink()
    if plain and filecmp.cmp(source, target, shallow=False):
        return
    target.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)


def _borrow_commits(root: Path, workspace: Path) -> None:
    if not (workspace / ".git").is_dir():
        git(workspace, "init", "-q", ".")
    objects = (root / git(root, "rev-parse", "--git-path", "objects").strip()).resolve()
    write_text(workspace / ".git" / "objects" / "info" / "alternates", f"{objects}\n")
    commit = git(root, "rev-parse", "-q", "--verify", "HEAD", may_fail=True).strip()
    if commit:
        git(workspace, "reset", "-q", "--mixed", commit)


def prepare_rows(run: FamilyRun, is_stopped: Callable[[], bool] = lambda: False) -> list[ReadyRow]:
    """Bring the workspace of every row up to date and plan it; none has started yet.

    To be called with the run lock of the family's folder held; ``is_stopped`` is asked before each row.

    Raises:
        InputError: bad parameters, or a row whose workspace is at work.
        KeyboardInterrupt: once ``is_stopped``.
    """
    ready = []
    for row in run.family.rows:
        if is_stopped():
            raise KeyboardInterrupt
        workspace = run.root / workspace_dir(run.family.name, row.name)
        with run_lock(workspace), contextlib.chdir(workspace):
            stop_orphans(workspace)
            bring_up_to_date(run.root, workspace)
            link_imported_backbones(run.root, workspace)
            overlay(row.preset or run.preset, [*run.overrides, *row.overrides])
            if row.seed:
                overlay(None, seed_overrides(load_yaml(PARAMS), row.seed))
            share_unpacked_archives(run.root, workspace)
            plan, _ = prepare(workspace, run.targets, overrides=reach_inputs(run.root, workspace))
        ready.append(ReadyRow(row, workspace, plan))
    return ready


def save_experiment(root: Path, ready: ReadyRow, name: str, stages: Collection[str]) -> str | None:
    """Commit what a row has made where `dvc exp run` would: below the user's last commit, on no branch.

    The commit has the workspace's files and, in dvc.lock, the stages of this row alone. Nothing is written
    where the same is saved already.

    Args:
        root: the user's repository.
        ready: the row.
        name: of the experiment, which takes the place of an earlier one of this name and commit.
        stages: those that are up to date.

    Returns:
        Why it is not saved; None if it is.

    Raises:
        InputError: in the words of Git.
    """
    workspace = ready.workspace
    head = git(workspace, "rev-parse", "-q", "--verify", "HEAD", may_fail=True).strip()
    if not head:
        return "the repository has no commit yet"
    for path in (PARAMS, LOCK_FILE):
        if (workspace / path).is_file() and redacted(text := (workspace / path).read_text("utf-8")) != text:
            return f"{path} holds a password or key, which would be committed"
    index = str((workspace / ".git" / "experiment").absolute())
    Path(index).unlink(missing_ok=True)
    lock = git(workspace, "hash-object", "-w", "--stdin", given=lock_text(workspace, stages)).strip()
    names = "".join(f"{path}\0" for path in sorted(_copied(workspace)))
    git(workspace, "update-index", "--add", "-z", "--stdin", given=names, index=index)
    git(workspace, "update-index", "--add", "--cacheinfo", f"100644,{lock},{LOCK_FILE}", index=index)
    tree = git(workspace, "write-tree", index=index).strip()
    ref = experiment_ref(head, name)
    if tree != git(root, "rev-parse", "-q", "--verify", f"{ref}^{{tree}}", may_fail=True).strip():
        author = ("-c", "user.name=virtex", "-c", "user.email=virtex@localhost")
        commit = git(workspace, *author, "commit-tree", tree, "-p", head, "-m", f"virtex: {name}").strip()
        git(workspace, "push", "-q", "--force", "--no-verify", str(root), f"{commit}:{ref}")
    return None


def shared_stages(ready: Sequence[ReadyRow]) -> list[str]:
    """Return the names of the stages that are the same in all rows, in order.

    They and all that they need read no parameter in which the rows differ.
    """
    varying = _varying_keys([load_yaml(row.workspace / PARAMS) for row in ready])
    everywhere = set.intersection(*({stage.name for stage in row.plan.stages} for row in ready))
    shared: list[str] = []
    for stage in ready[0].plan.stages:
        reads = any(_overlap(key, other) for key in stage.params for other in varying)
        if stage.name in everywhere and not reads and set(stage.upstream) <= set(shared):
            shared.append(stage.name)
    return shared


def _varying_keys(trees: Sequence[dict[str, Any]]) -> set[str]:
    flat = [dict(flatten(tree)) for tree in trees]
    keys = {key for values in flat for key in values}
    return {key for key in keys if any(values.get(key, ...) != flat[0].get(key, ...) for values in flat)}


def _overlap(key: str, other: str) -> bool:
    """Tell whether one is the other or lies within it: ``textual_head``, ``textual_head.num_layers``."""
    return f"{other}.".startswith(f"{key}.") or f"{key}.".startswith(f"{other}.")
