"""Which code a clone has. Machines that work together have to have the same."""

import os
import subprocess
from pathlib import Path

from components.core.errors import InputError
from components.core.paths import PARAMS

CARRIED = frozenset({str(PARAMS), "dvc.lock"})  # the flow sends them to the workers, changed or not
_CODE = (
    "components",
    "pipelines",
    "presets",
)  # where a new file, which Git does not know yet, counts as a change
_SHOWN = 5


def commit_of(root: Path) -> str:
    """The commit of a clone that has no other code than that.

    Raises:
        InputError: no commit yet, or changes that are in none; those of params.yaml and dvc.lock may be.
    """
    commit = _git(root, "rev-parse", "--verify", "HEAD").strip()
    changed = _paths(_git(root, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=no"))
    changed |= set(
        filter(None, _git(root, "ls-files", "-z", "--others", "--exclude-standard", *_CODE).split("\0"))
    )
    changed -= CARRIED
    if changed:
        names = sorted(changed)
        shown = ", ".join(names[:_SHOWN]) + (
            f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        )
        raise InputError(
            f"{root}: {shown}: changed, and in no commit, so the other machines cannot have it; commit, "
            "push, and `git pull` there (params.yaml and dvc.lock may be changed: they are sent)"
        )
    return commit


def require_commit(root: Path, commit: str) -> None:
    """Refuse a clone with other code than ``commit``.

    Raises:
        InputError: as ``commit_of``, or another commit.
    """
    found = commit_of(root)
    if found != commit:
        raise InputError(
            f"{root}: is at commit {found[:12]}, the flow at {commit[:12]}; stop the worker, "
            f"`git fetch && git checkout {commit[:12]}` there, and start it again"
        )


def _paths(status: str) -> set[str]:
    return {entry[3:] for entry in status.split("\0") if entry}


def _git(root: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"{root}: `{' '.join(command)}`: {done.stderr.strip()}")
    return done.stdout
