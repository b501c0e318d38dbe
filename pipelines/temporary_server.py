"""A Prefect server for the time of one command, on this workspace's database.

Where no server is configured Prefect starts one itself, but imports all of its server into the flow's process
for that, and then waits. This one comes up while that process does its own imports.
"""

import atexit
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from components.core.machine import LOOPBACK, positive
from pipelines.prefect_server import ADDRESS_VARIABLE, require_server
from pipelines.servers import Server, prefect_variables
from pipelines.workspace import remember_servers

PATIENCE_VARIABLE = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"  # Prefect's, for the same thing
_OURS_VARIABLE = "VIRTEX_TEMPORARY_SERVER"  # whose page nobody can open once the command has ended
# As Prefect starts its own: no pages, and of its services only those that keep what a flow does.
_VARIABLES = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"}


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
    server = Server(root, "temporary-Prefect", temporary_command(port), variables, f"{address}/health")
    atexit.register(
        server.ask_to_end
    )  # before Prefect registers what it does at the end: the last comes first
    remember_servers(root, [server.mark])
    os.environ[ADDRESS_VARIABLE] = os.environ[_OURS_VARIABLE] = address
    return lambda is_stopped: server.wait_until_up(patience, is_stopped)


def has_lasting_server() -> bool:
    """Whether Prefect's server, and so the pages that it serves, outlives this command."""
    address = os.environ.get(ADDRESS_VARIABLE)
    return bool(address) and address != os.environ.get(_OURS_VARIABLE)


def temporary_command(port: int) -> list[str]:
    """Its command line."""
    return [
        *(sys.executable, "-m", "uvicorn", "--factory", "pipelines.prefect_database:create_app"),
        *("--host", LOOPBACK, "--port", str(port), "--log-level", "error", "--lifespan", "on"),
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
