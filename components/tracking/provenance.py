"""Tags that say where a run comes from: commit, host, process, versions."""

import getpass
import os
import platform
import socket
import subprocess
from importlib import metadata

from components.core.process import process_mark

_PACKAGES = ("torch", "torchvision", "dvc", "mlflow", "prefect")

HOST_TAG = "virtex.host"
PROCESS_TAG = "virtex.process"


def provenance(name: str, source: str) -> dict[str, str]:
    """Tags for a run called ``name``, started by the Python module ``source``."""
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
