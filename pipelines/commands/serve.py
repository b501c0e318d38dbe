"""``virtex serve``: carry out runs that are asked for in Prefect, on its page or with its command."""

import argparse
import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import Any

from components.core.command import positive
from components.core.machine import PAGE_PORTS
from components.core.process import handle_ending
from components.core.redaction import redacted
from pipelines.commands import EXIT_FAILED
from pipelines.commands.ui import interrupt_once, print_addresses
from pipelines.prefect_server import require_server
from pipelines.servers import Pages, servers, use_workspace_server


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("serve", help="carry out runs that are asked for on Prefect's page")
    parser.add_argument(
        "--name",
        help="of the deployment, below `virtex/`: `workspace`, or HOST-FOLDER where PREFECT_API_URL names a "
        "server",
    )
    parser.add_argument("--mlflow-port", type=positive, default=PAGE_PORTS["MLflow"])
    parser.add_argument("--prefect-port", type=positive, default=PAGE_PORTS["Prefect"])
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    root = Path.cwd()
    is_teams = bool(os.environ.get("PREFECT_API_URL"))
    name = options.name or (f"{socket.gethostname()}-{root.name}" if is_teams else "workspace")
    use_workspace_server(root)
    pages = Pages()
    handle_ending(interrupt_once)  # until runs can be asked for
    with contextlib.ExitStack() as stack:
        if not os.environ.get("PREFECT_API_URL"):
            print("Starting the servers; this takes some seconds.", flush=True)
            pages = stack.enter_context(servers(root, options.mlflow_port, options.prefect_port))
            print_addresses(pages)
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
