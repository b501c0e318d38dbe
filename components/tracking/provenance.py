"""Tags that say where a run comes from: stage, commit, host, process, versions."""

import getpass
import os
import platform
import socket
import subprocess
from importlib import metadata

_PACKAGES = ("torch", "torchvision", "dvc", "mlflow", "prefect")

STAGE_TAG = "dvc.stage"
HOST_TAG = "virtex.host"
PROCESS_TAG = "virtex.process"


def provenance(stage: str) -> dict[str, str]:
    """Tags for a run of ``stage``, the name DVC gives it (``lmdb@train``)."""
    name, _, item = stage.partition("@")
    tags = {
        "mlflow.runName": stage.replace("@", "/"),
        "mlflow.user": _user(),
        "mlflow.source.name": f"components.stages.{name}",
        "mlflow.source.type": "LOCAL",
        STAGE_TAG: stage,
        HOST_TAG: socket.gethostname(),
        PROCESS_TAG: process_mark(os.getpid()),
        "version.python": platform.python_version(),
    }
    if item:
        tags["item"] = item
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


def process_mark(pid: int) -> str:
    """A process by number and start time, since numbers are used again; the number alone if it is gone."""
    import psutil

    try:
        return f"{pid} {psutil.Process(pid).create_time():.0f}"
    except psutil.NoSuchProcess:
        return str(pid)


def is_alive(mark: str) -> bool:
    """Whether the process that ``process_mark`` described is still running."""
    pid, _, started = mark.partition(" ")
    return bool(started) and pid.isdecimal() and process_mark(int(pid)) == mark


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
