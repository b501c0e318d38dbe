"""Whose a run is: commit, host and process as tags; what becomes of it when the process has crashed.

A run whose process was killed stays RUNNING in MLflow for ever unless somebody closes it; a stage that
torchrun starts again goes on in the run that its first start opened.
"""

from __future__ import annotations

import getpass
import os
import platform
import socket
import subprocess
from importlib import metadata
from typing import TYPE_CHECKING

from components.core.process import is_alive, process_mark

if TYPE_CHECKING:
    from components.tracking.store import Store

_PACKAGES = ("torch", "torchvision", "dvc", "mlflow", "prefect")

HOST_TAG = "virtex.host"
PROCESS_TAG = "virtex.process"
LAUNCH_TAG = "torchrun.launch"


def provenance(name: str, source: str) -> dict[str, str]:
    """Return the tags of a run called ``name``, started by the Python module ``source``."""
    tags = {
        "mlflow.runName": name,
        "mlflow.user": _user(),
        "mlflow.source.name": source,
        "mlflow.source.type": "LOCAL",
        HOST_TAG: socket.gethostname(),
        PROCESS_TAG: process_mark(os.getpid()),
        "version.python": platform.python_version(),
    }
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags["mlflow.source.git.commit"] = commit
        tags["git.dirty"] = "true" if _git("status", "--porcelain", "--untracked-files=no") else "false"
    for package in _PACKAGES:
        try:
            tags[f"version.{package}"] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return tags


def close_orphaned_runs(store: Store, tag: str | None = None, value: str = "") -> list[str]:
    """End, as KILLED, the open runs whose process on this machine no longer exists; return their ids.

    With ``tag`` only those that have it with this ``value``. Models that they never finished logging are
    deleted. Raises whatever MLflow raises.
    """
    from components.tracking.models import delete_unfinished_models

    condition = f"and tags.`{tag}` = '{value}' " if tag else ""
    found = store.client.search_runs(
        [store.experiment_id],
        filter_string=(
            f"attributes.status = 'RUNNING' {condition}and tags.`{HOST_TAG}` = '{socket.gethostname()}'"
        ),
    )
    orphaned = [run.info.run_id for run in found if not is_alive(run.data.tags.get(PROCESS_TAG, ""))]
    for run_id in orphaned:
        store.client.set_terminated(run_id, "KILLED")
        delete_unfinished_models(store.client, store.experiment_id, run_id)
    return orphaned


def launch_tags() -> dict[str, str]:
    """Return the tag by which a later start of the same launch finds its run; none outside torchrun."""
    launch = os.environ.get("TORCHELASTIC_RUN_ID")
    return {LAUNCH_TAG: launch} if launch else {}


def reopened_run(store: Store, tag: str, value: str) -> str | None:
    """Reopen the newest run of this launch with this tag; None if nothing was started before.

    Rows that are logged again after the checkpoint was read stand in the run twice, with the same values.
    Raises whatever MLflow raises.
    """
    launch = os.environ.get("TORCHELASTIC_RUN_ID")
    if not launch or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        return None
    found = store.client.search_runs(
        [store.experiment_id],
        filter_string=f"tags.`{tag}` = '{value}' and tags.`{LAUNCH_TAG}` = '{launch}'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    if not found:
        return None
    run_id = str(found[0].info.run_id)
    store.client.update_run(run_id, status="RUNNING")
    store.client.set_tag(run_id, HOST_TAG, socket.gethostname())
    store.client.set_tag(run_id, PROCESS_TAG, process_mark(os.getpid()))
    store.client.set_tag(run_id, "torchrun.restarts", os.environ["TORCHELASTIC_RESTART_COUNT"])
    return run_id


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
