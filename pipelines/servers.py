"""The MLflow and Prefect servers of this workspace, on loopback addresses."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.atomic import write_json
from components.errors import InputError
from components.tracking.processes import is_alive, process_mark
from components.tracking.store import ARTIFACTS_DIR, tracking_uri
from pipelines.child import stop_group
from pipelines.workspace import STATE_DIR

_DATABASE_VARIABLE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
_HOST = "127.0.0.1"
_NOTE = "ui.json"  # where the Prefect server of a running `virtex ui` is


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
        InputError: if no port is free, or one does not answer within three minutes.
    """
    addresses: dict[str, str] = {}
    started: list[_Server] = []
    notes: list[Path] = []
    try:
        if tracking_uri().startswith("http"):
            addresses["MLflow"] = tracking_uri()
        else:
            port = free_port(mlflow_port)
            addresses["MLflow"] = f"http://{_HOST}:{port}"
            variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
            health = f"{addresses['MLflow']}/health"
            started.append(_Server(root, "mlflow", mlflow_command(port), variables, health))
        given = os.environ.get("PREFECT_API_URL")
        if given:
            addresses["Prefect"] = given.removesuffix("/api")
        else:
            port = free_port(prefect_port)
            addresses["Prefect"] = f"http://{_HOST}:{port}"
            api = f"{addresses['Prefect']}/api"
            variables = {"PREFECT_UI_API_URL": api}
            started.append(_Server(root, "prefect", prefect_command(port), variables, f"{api}/health"))
        for server in started:
            server.wait_until_up()
        if not given:
            notes.append(root / STATE_DIR / _NOTE)
            write_json(notes[0], {"prefect_api_url": api, "process": process_mark(os.getpid())})
        yield addresses
    finally:
        for note in notes:
            note.unlink(missing_ok=True)
        for server in started:
            server.stop()


class _Server:
    """One server process, in a group of its own, with its messages in a file."""

    def __init__(
        self, root: Path, name: str, command: list[str], variables: dict[str, str], health: str
    ) -> None:
        self._health = health
        self._log = root / STATE_DIR / f"{name}-server.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **variables},
                start_new_session=True,
            )

    def wait_until_up(self, seconds: float = 180.0) -> None:
        limit = time.monotonic() + seconds
        while time.monotonic() < limit and self._process.poll() is None:
            try:
                with urllib.request.urlopen(self._health, timeout=5) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.3)
        raise InputError(f"no answer from {self._health}; the server's messages are in {self._log}")

    def stop(self) -> None:
        stop_group(self._process.pid)
        self._process.wait()


def free_port(wanted: int) -> int:
    """``wanted`` or the next port above it that nothing on this machine listens at.

    Raises:
        InputError: if none of the hundred ports from there on is free.
    """
    for port in range(wanted, min(wanted + 100, 65536)):
        with socket.socket() as probe:
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return port
    raise InputError(f"no free port from {wanted} to {wanted + 99}: choose another one with --...-port")


def _running_ui(root: Path) -> str | None:
    try:
        note = json.loads((root / STATE_DIR / _NOTE).read_text(encoding="utf-8"))
        return str(note["prefect_api_url"]) if is_alive(str(note["process"])) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
