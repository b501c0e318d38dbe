"""What machines that work together must have: the same commit, a DVC remote, an MLflow server."""

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from components.core.errors import InputError
from components.core.paths import PARAMS
from components.tracking.store import public_uri, require_access, tracking_uri
from pipelines.dvc_internals import default_remote
from pipelines.output import StageOutput
from pipelines.process import git, git_files, run_child

CARRIED = frozenset({str(PARAMS), "dvc.lock"})  # the flow sends them to the workers, changed or not
_CODE = ("components", "pipelines", "presets")  # where a new file, which Git does not know yet, is a change
_SHOWN = 5
_VARIABLE = "MLFLOW_TRACKING_URI"
_SECONDS = 10.0


def commit_of(root: Path) -> str:
    """Return the commit of a clone that has no other code than that.

    Raises:
        InputError: no commit yet, or changes that are in none; those of params.yaml and dvc.lock may be.
    """
    commit = git(root, "rev-parse", "--verify", "HEAD").strip()
    changed = _paths(git(root, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=no"))
    changed |= git_files(root, "--others", "--exclude-standard", *_CODE)
    changed -= CARRIED
    if changed:
        names = sorted(changed)
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        shown = ", ".join(names[:_SHOWN]) + more
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


class TransferError(RuntimeError):
    """DVC could not push or pull, in its own words."""


def require_remote(root: Path) -> str:
    """Name of the remote that the clone uses.

    Raises:
        InputError: it has none.
    """
    name = default_remote(root)
    if not name:
        raise InputError(
            f"{root}: no DVC remote, through which machines exchange files; "
            "`dvc remote add --default team s3://BUCKET/FOLDER`, commit .dvc/config, and see docs/teams.md"
        )
    return name


def push(root: Path, targets: Sequence[str], cancelled: Callable[[], int]) -> None:
    """Push outputs that this clone has; those that it lacks are taken to be there.

    Raises:
        TransferError: the remote is out of reach, refuses, or is full.
    """
    _transfer(root, ["push", *targets], cancelled)


def pull(root: Path, targets: Sequence[str], cancelled: Callable[[], int]) -> None:
    """Make outputs those of dvc.lock.

    Raises:
        TransferError: the remote is out of reach, or has not got them.
    """
    _transfer(root, ["pull", "--force", *targets], cancelled)


def _transfer(root: Path, arguments: Sequence[str], cancelled: Callable[[], int]) -> None:
    output = StageOutput(f"dvc {arguments[0]}")
    end = run_child(
        [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments],
        environment=os.environ,
        folder=root,
        on_start=lambda group: None,
        on_line=output.feed,
        cancelled=cancelled,
    )
    if end.returncode != 0 and not end.stopped_by:
        raise TransferError(f"dvc {arguments[0]}: {output.error()}")


def shared_tracking_uri() -> str | None:
    """Return the flow's server for the workers; None if it holds a password, and each needs its own.

    Raises:
        InputError: the flow's store is a file of this machine.
    """
    uri = tracking_uri()
    if not uri.startswith(("http://", "https://")):
        raise InputError(
            f"several machines need one MLflow server: set {_VARIABLE}=http://HOST:5000 to one that all "
            "of them reach; docs/teams.md says how to start it"
        )
    return public_uri(uri)


def tracking_variables(sent: Mapping[str, str]) -> dict[str, str]:
    """Return variables for a stage: the worker's own setting goes before the flow's."""
    uri = os.environ.get(_VARIABLE) or sent.get(_VARIABLE)
    return {_VARIABLE: uri} if uri else {}


def sent_variables(uri: str | None) -> dict[str, str]:
    """Return what the flow sends of it."""
    return {_VARIABLE: uri} if uri else {}


def require_tracking(sent: str | None) -> None:
    """Refuse a machine that does not reach the server it would use.

    Raises:
        InputError: there is none, nothing answers, or it wants another password.
    """
    uri = os.environ.get(_VARIABLE) or sent
    if not uri or not uri.startswith(("http://", "https://")):
        raise InputError(f"no MLflow server: set {_VARIABLE} where the worker runs")
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # it is there
    except OSError as error:
        reason = getattr(error, "reason", error)
        shown = public_uri(uri) or f"the address in {_VARIABLE}"
        raise InputError(f"MLflow at {shown} does not answer there ({reason})") from error
    require_access(uri)
