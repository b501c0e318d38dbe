"""``virtex ui``: the MLflow and Prefect web pages of this workspace. ``virtex serve``: with runs on request.

Those are asked for in Prefect, on its page or with its command.
"""

import argparse
import contextlib
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from components.core.command import positive
from components.core.machine import PAGE_PORTS
from components.core.process import handle_ending, ignore_ending
from components.core.redaction import redacted
from components.tracking.store import AccessRefused, open_store, runs_page
from pipelines.commands import EXIT_FAILED
from pipelines.prefect_server import require_server
from pipelines.servers import Pages, running_ui, servers, use_workspace_server


def add_ui_parser(commands: Any) -> None:
    parser = commands.add_parser("ui", help="start the MLflow and Prefect web pages; Ctrl-C stops them")
    parser.add_argument("--mlflow-port", type=positive, default=PAGE_PORTS["MLflow"])
    parser.add_argument("--prefect-port", type=positive, default=PAGE_PORTS["Prefect"])
    parser.set_defaults(command=_ui)


def _ui(options: argparse.Namespace) -> int:
    root = Path.cwd()
    running = running_ui(root)
    if running:
        _print_addresses(Pages(running.addresses))
        print(f"They run already: a `virtex ui` or `virtex serve` (process {running.pid}) has started them.")
        return 0
    use_workspace_server(root)
    print("Starting; this takes some seconds.", flush=True)
    handle_ending(_interrupt_once)
    with servers(root, options.mlflow_port, options.prefect_port) as pages:
        _print_addresses(pages)
        print("Ctrl-C stops what was started here.", flush=True)
        while not (ended := pages.ended()):
            time.sleep(1)
    print(f"virtex: error: {ended}", file=sys.stderr)
    return EXIT_FAILED


def _print_addresses(pages: Pages) -> None:
    """Print where the pages are, and what is not as the user asked for it."""
    lines = [f"{name:<8} {_first_page(name, address)}" for name, address in pages.addresses.items()]
    print(*lines, *pages.notices, sep="\n", flush=True)


def _first_page(name: str, address: str) -> str:
    """Return where to begin: of MLflow the table of runs, with the columns that compare them."""
    if name != "MLflow":
        return address
    try:
        return runs_page(address, open_store().experiment_id)
    except AccessRefused as error:
        return f"{address} ({error})"
    except Exception:  # of MLflow, when it is out of reach: its start page will say so
        return address


def _interrupt_once(_number: int, _frame: object) -> None:
    """End the command; further signals must not keep it from stopping its servers."""
    ignore_ending()
    with contextlib.suppress(OSError):  # of a terminal or a pipe that is gone
        print("\nStopping.", flush=True)
    raise KeyboardInterrupt


def add_serve_parser(commands: Any) -> None:
    parser = commands.add_parser("serve", help="carry out runs that are asked for on Prefect's page")
    parser.add_argument(
        "--name",
        help="of the deployment, below `virtex/`: `workspace`, or HOST-FOLDER where PREFECT_API_URL names a "
        "server",
    )
    parser.add_argument("--mlflow-port", type=positive, default=PAGE_PORTS["MLflow"])
    parser.add_argument("--prefect-port", type=positive, default=PAGE_PORTS["Prefect"])
    parser.set_defaults(command=_serve)


def _serve(options: argparse.Namespace) -> int:
    root = Path.cwd()
    is_teams = bool(os.environ.get("PREFECT_API_URL"))
    name = options.name or (f"{socket.gethostname()}-{root.name}" if is_teams else "workspace")
    use_workspace_server(root)
    pages = Pages()
    handle_ending(_interrupt_once)  # until runs can be asked for
    with contextlib.ExitStack() as stack:
        if not os.environ.get("PREFECT_API_URL"):
            print("Starting the servers; this takes some seconds.", flush=True)
            pages = stack.enter_context(servers(root, options.mlflow_port, options.prefect_port))
            _print_addresses(pages)
            os.environ["PREFECT_API_URL"] = f"{pages.addresses['Prefect']}/api"
        else:
            require_server(os.environ["PREFECT_API_URL"])
        from pipelines.serving import serve

        serve(root, name, lambda: _say_how(name), lambda: pages.ended() is not None)
        ended = pages.ended()
    if ended:
        print(f"virtex: error: {ended}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _say_how(name: str) -> None:
    server = redacted(os.environ["PREFECT_API_URL"])
    print(
        f"Waiting for runs of the deployment virtex/{name}; Ctrl-C stops this. Ask for one on Prefect's "
        f"page, or with\n  PREFECT_API_URL={server} prefect deployment run virtex/{name} --param preset=NAME",
        flush=True,
    )
