"""The MLflow and Prefect servers of this workspace, on loopback addresses, and Prefect's for one command."""

import atexit
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.core.files import read_json, write_json
from components.core.machine import LOOPBACK, port_is_free, positive
from components.core.process import is_alive, process_mark
from components.core.redaction import redacted
from components.tracking.store import ARTIFACTS_DIR, open_store, tracking_uri
from pipelines.prefect_server import ADDRESS_VARIABLE, require_server
from pipelines.process import stop_group
from pipelines.workspace import STATE_DIR, note_servers, state_dir

UI_NOTE = STATE_DIR / "ui.json"  # where the servers of a running `virtex ui` are
_DATABASE_VARIABLE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
_LAST_LINES = 5  # of an exited server's messages, for its exit message
PATIENCE_VARIABLE = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"  # Prefect's, for the same thing
_OURS_VARIABLE = "VIRTEX_TEMPORARY_SERVER"  # whose page nobody can open once the command has ended
# As Prefect starts its own: no pages, and of its services only those that keep what a flow does.
_VARIABLES = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"}


@dataclass(frozen=True, slots=True)
class RunningUi:
    """A `virtex ui` at work.

    Attributes:
        pid: of its process.
        addresses: of its pages, by name.
        prefect_api_url: for whoever runs flows here; None where it started no Prefect server.
    """

    pid: int
    addresses: dict[str, str]
    prefect_api_url: str | None


@dataclass(slots=True)
class Pages:
    """Pages that can be looked at.

    Attributes:
        addresses: by name.
        notices: what is not as the user asked for it.
    """

    addresses: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    _servers: list["Server"] = field(default_factory=list)

    def ended(self) -> str | None:
        """Return what to say of a server that has ended by itself; None while all are up."""
        return next((server.exit_message() for server in self._servers if not server.is_up()), None)


def use_workspace_server(root: Path) -> None:
    """Point Prefect at this workspace: at the server of ``virtex ui`` if it runs, else at its own database.

    Has to precede Prefect's import. A server or database named in the environment stays.
    """
    if os.environ.get("PREFECT_API_URL"):
        return
    running = running_ui(root)
    if running and running.prefect_api_url:
        os.environ["PREFECT_API_URL"] = running.prefect_api_url
        return
    os.environ.setdefault(_DATABASE_VARIABLE, f"sqlite+aiosqlite:///{state_dir(root)}/prefect.db")


def running_ui(root: Path) -> RunningUi | None:
    """Return the `virtex ui` that is at work in this workspace, if there is one."""
    try:
        note = _read_note(root)
        mark, addresses = str(note["process"]), dict(note["addresses"])
        return RunningUi(_pid(mark), addresses, note["prefect_api_url"]) if is_alive(mark) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _stop_orphans(root: Path) -> None:
    """Stop the servers of a `virtex ui` that was killed outright."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        note = _read_note(root)
        for mark in filter(is_alive, note["servers"] if not is_alive(str(note["process"])) else ()):
            stop_group(_pid(mark))


def _read_note(root: Path) -> Any:
    return read_json(root / UI_NOTE)


def _pid(mark: str) -> int:
    return int(mark.split()[0])


def mlflow_command(port: int) -> list[str]:
    """Return the command line of a small MLflow server; ``MLFLOW_BACKEND_STORE_URI`` names its store."""
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--artifacts-destination", str(ARTIFACTS_DIR.absolute())),
        *("--host", LOOPBACK, "--port", str(port), "--workers", "1"),
    ]


def prefect_command(port: int, *options: str) -> list[str]:
    """Return the command line of a Prefect server on the workspace's database, with options of uvicorn."""
    return [
        *(sys.executable, "-m", "uvicorn", "--factory", "pipelines.prefect_database:create_app"),
        *("--host", LOOPBACK, "--port", str(port), *(options or ("--log-level", "warning"))),
    ]


def prefect_variables(address: str) -> dict[str, str]:
    """Return what lets the server at ``address`` answer its own pages only, by this machine's two names."""
    port = address.rpartition(":")[2]
    origins = ",".join(f"http://{name}:{port}" for name in (LOOPBACK, "localhost"))
    return {"PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origins, "PREFECT__SERVER_FINAL": "1"}


@contextmanager
def servers(root: Path, mlflow_port: int, prefect_port: int) -> Iterator[Pages]:
    """Run both servers; yields once they answer. Those named in the environment are used instead.

    Raises:
        InputError: if no port is free, or a server ends or does not answer within three minutes.
    """
    pages = Pages()
    api = os.environ.get("PREFECT_API_URL")
    own_api = None
    _stop_orphans(root)
    try:
        if tracking_uri().startswith("http"):
            pages.addresses["MLflow"] = redacted(tracking_uri())
        else:
            open_store()  # under its lock: a server and a run that both create or mend it would break it
            pages.addresses["MLflow"] = address = _address(mlflow_port, "mlflow", pages.notices)
            # Not in the command line, which everybody on this machine can read: it may hold a password.
            store = {"MLFLOW_BACKEND_STORE_URI": tracking_uri()}
            variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **store}
            command = mlflow_command(int(address.rpartition(":")[2]))
            pages._servers.append(Server(root, "MLflow", command, variables, f"{address}/health"))
        if api:
            pages.addresses["Prefect"] = redacted(api).removesuffix("/api")
        else:
            pages.addresses["Prefect"] = address = _address(prefect_port, "prefect", pages.notices)
            own_api = f"{address}/api"
            command = prefect_command(int(address.rpartition(":")[2]))
            variables = prefect_variables(address) | {"PREFECT_UI_API_URL": own_api}
            pages._servers.append(Server(root, "Prefect", command, variables, f"{own_api}/health"))
        for server in pages._servers:
            server.wait_until_up()
        if pages._servers:
            note = {
                "process": process_mark(os.getpid()),
                "servers": [server.mark for server in pages._servers],
                "addresses": pages.addresses,
                "prefect_api_url": own_api,
            }
            write_json(root / UI_NOTE, note)
        yield pages
    finally:
        if pages._servers:
            (root / UI_NOTE).unlink(missing_ok=True)
        for server in pages._servers:
            server.stop()


def _address(wanted: int, name: str, notices: list[str]) -> str:
    port = free_port(wanted)
    if port != wanted:
        notices.append(f"Port {wanted} is taken; --{name}-port chooses another one than {port}.")
    return f"http://{LOOPBACK}:{port}"


class Server:
    """One server process, in a group of its own, with its messages in a file."""

    def __init__(
        self, root: Path, name: str, command: list[str], variables: dict[str, str], health: str
    ) -> None:
        self._name = name
        self._health = health
        self._log = root / STATE_DIR / f"{name.lower()}-server.log"
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
        self.mark = process_mark(self._process.pid)

    def is_up(self) -> bool:
        return self._process.poll() is None

    def wait_until_up(self, seconds: float = 180.0, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Wait until it answers, or ``is_stopped``.

        Raises:
            InputError: it has ended, or did not answer.
        """
        limit = time.monotonic() + seconds
        while time.monotonic() < limit and self.is_up():
            if is_stopped():
                return
            try:
                with urllib.request.urlopen(self._health, timeout=5) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.1)
        if not self.is_up():
            raise InputError(self.exit_message())
        raise InputError(f"no answer from {self._health}; the server's messages are in {self._log}")

    def exit_message(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
        said = "".join(f"\n  {line}" for line in lines)
        return f"the {self._name} server has ended; its last messages (all are in {self._log}):{said}"

    def ask_to_end(self) -> None:
        """Let it end by itself, in a second or two."""
        self._process.terminate()

    def stop(self) -> None:
        stop_group(self._process.pid)
        self._process.wait()


def free_port(wanted: int) -> int:
    """Return ``wanted`` or the next port above it that nothing on this machine listens at.

    Raises:
        InputError: if none of the hundred ports from there on is free.
    """
    for port in range(wanted, min(wanted + 100, 65536)):
        if port_is_free(port):
            return port
    raise InputError(f"no free port from {wanted} to {wanted + 99}: choose another one with --...-port")


def start_temporary_server(root: Path) -> Callable[[Callable[[], bool]], None]:
    """Start one, unless a server is configured, and point Prefect at it. Has to precede Prefect's import.

    It ends with this process, after whatever Prefect sends last; Ctrl-C in a terminal does not reach it.

    Returns:
        a function that waits until the server answers, or until the function that it is given says True.

    Raises:
        InputError: the number of seconds to wait for it is none. The returned function: the server has ended
            or does not answer; one that is configured is given seconds.
    """
    configured = os.environ.get(ADDRESS_VARIABLE)
    if configured:
        return lambda is_stopped: require_server(configured, is_stopped)
    patience = positive(PATIENCE_VARIABLE) or 180
    port = _free_port()
    address = f"http://{LOOPBACK}:{port}/api"
    variables = _VARIABLES | prefect_variables(address.removesuffix("/api"))
    command = prefect_command(port, "--log-level", "error", "--lifespan", "on")
    server = Server(root, "temporary-Prefect", command, variables, f"{address}/health")
    # Before Prefect registers what it does at the end: the last comes first.
    atexit.register(server.ask_to_end)
    note_servers(root, [server.mark])
    os.environ[ADDRESS_VARIABLE] = os.environ[_OURS_VARIABLE] = address
    return lambda is_stopped: server.wait_until_up(patience, is_stopped)


def has_lasting_server() -> bool:
    """Tell whether Prefect's server, and so the pages that it serves, outlives this command."""
    address = os.environ.get(ADDRESS_VARIABLE)
    return bool(address) and address != os.environ.get(_OURS_VARIABLE)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
