"""The MLflow and Prefect servers of this workspace, on loopback addresses."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from components.atomic import write_json
from components.tracking.processes import is_alive, process_mark
from components.tracking.store import ARTIFACTS_DIR, tracking_uri
from pipelines.child import stop_group
from pipelines.workspace import STATE_DIR

_DATABASE_VARIABLE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
_HOST = "127.0.0.1"


def use_workspace_server(root: Path) -> None:
    """Point Prefect at this workspace: at the server of ``virtex ui`` if it runs, else at its own database.

    Has to precede Prefect's import. A server or database named in the environment stays.
    """
    if os.environ.get("PREFECT_API_URL"):
        return
    running = _running_ui(root)
    if running:
        os.environ["PREFECT_API_URL"] = running
        return
    folder = (root / STATE_DIR).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault(_DATABASE_VARIABLE, f"sqlite+aiosqlite:///{folder}/prefect.db")


def mlflow_command(port: int) -> list[str]:
    """Command line of a small MLflow server on the workspace's store."""
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", tracking_uri()),
        *("--artifacts-destination", str(ARTIFACTS_DIR.absolute())),
        *("--host", _HOST, "--port", str(port), "--workers", "1"),
    ]


def prefect_command(port: int) -> list[str]:
    """Command line of a Prefect server on the workspace's database."""
    return [sys.executable, "-m", "prefect", "server", "start", "--host", _HOST, "--port", str(port)]


@contextmanager
def servers(root: Path, mlflow_port: int, prefect_port: int) -> Iterator[dict[str, str]]:
    """Run both servers; yields their addresses by name once they answer. Those in the environment are used.

    Raises:
        RuntimeError: if one does not answer within three minutes.
    """
    addresses: dict[str, str] = {}
    groups: list[subprocess.Popen[bytes]] = []
    note = root / STATE_DIR / "ui.json"
    try:
        if tracking_uri().startswith("http"):
            addresses["MLflow"] = tracking_uri()
        else:
            port = free_port(mlflow_port)
            addresses["MLflow"] = f"http://{_HOST}:{port}"
            groups.append(_start(mlflow_command(port), {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}))
        given = os.environ.get("PREFECT_API_URL")
        if given:
            addresses["Prefect"] = given.removesuffix("/api")
        else:
            port = free_port(prefect_port)
            addresses["Prefect"] = f"http://{_HOST}:{port}"
            groups.append(_start(prefect_command(port), {"PREFECT_UI_API_URL": f"http://{_HOST}:{port}/api"}))
        for process, path in zip(groups, _health_paths(addresses, len(groups)), strict=True):
            _wait_until_up(process, path)
        if not given:
            mark = process_mark(os.getpid())
            write_json(note, {"prefect_api_url": addresses["Prefect"] + "/api", "process": mark})
        yield addresses
    finally:
        note.unlink(missing_ok=True)
        for process in groups:
            stop_group(process.pid)
            process.wait()


def free_port(wanted: int) -> int:
    """``wanted`` or the next port above it that nothing on this machine listens at.

    Raises:
        OSError: if none of the hundred ports from there on is free.
    """
    for port in range(wanted, wanted + 100):
        with socket.socket() as probe:
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port from {wanted} to {wanted + 99}")


def _running_ui(root: Path) -> str | None:
    try:
        note = json.loads((root / STATE_DIR / "ui.json").read_text(encoding="utf-8"))
        return str(note["prefect_api_url"]) if is_alive(str(note["process"])) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _health_paths(addresses: Mapping[str, str], started: int) -> list[str]:
    paths = [addresses["MLflow"] + "/health", addresses["Prefect"] + "/api/health"]
    if started == 2:
        return paths
    return [] if not started else [paths[1] if tracking_uri().startswith("http") else paths[0]]


def _start(command: list[str], variables: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **variables},
        start_new_session=True,
    )


def _wait_until_up(process: subprocess.Popen[bytes], address: str, seconds: float = 180.0) -> None:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"the server at {address} did not start; its messages are above")
