"""Files to and from the DVC remote, by DVC's own commands."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from components.core.errors import InputError
from pipelines.child import run_child
from pipelines.graph import default_remote
from pipelines.output import StageOutput

_CHECK_SECONDS = 60.0


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
