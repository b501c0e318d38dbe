"""``virtex ui``: the MLflow and Prefect web pages of this workspace."""

import argparse
import contextlib
import sys
import time
from pathlib import Path
from typing import Any

from components.core.command import positive
from components.core.machine import PAGE_PORTS
from components.core.process import handle_ending, ignore_ending
from components.tracking.store import open_store, runs_page
from pipelines.commands import EXIT_FAILED
from pipelines.servers import Pages, running_ui, servers, use_workspace_server


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("ui", help="start the MLflow and Prefect web pages; Ctrl-C stops them")
    parser.add_argument("--mlflow-port", type=positive, default=PAGE_PORTS["MLflow"])
    parser.add_argument("--prefect-port", type=positive, default=PAGE_PORTS["Prefect"])
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    root = Path.cwd()
    running = running_ui(root)
    if running:
        print_addresses(Pages(running.addresses))
        print(f"They run already: a `virtex ui` or `virtex serve` (process {running.pid}) has started them.")
        return 0
    use_workspace_server(root)
    print("Starting; this takes some seconds.", flush=True)
    handle_ending(interrupt_once)
    with servers(root, options.mlflow_port, options.prefect_port) as pages:
        print_addresses(pages)
        print("Ctrl-C stops what was started here.", flush=True)
        while not (ended := pages.ended()):
            time.sleep(1)
    print(f"virtex: error: {ended}", file=sys.stderr)
    return EXIT_FAILED


def print_addresses(pages: Pages) -> None:
    """Where the pages are, and what is not as the user asked for it."""
    lines = [f"{name:<8} {_first_page(name, address)}" for name, address in pages.addresses.items()]
    print(*lines, *pages.notices, sep="\n", flush=True)


def _first_page(name: str, address: str) -> str:
    """Where to begin: of MLflow the table of runs, with the columns that compare them."""
    if name != "MLflow":
        return address
    try:
        return runs_page(address, open_store().experiment_id)
    except Exception:  # of MLflow, when it is out of reach: its start page will say so
        return address


def interrupt_once(_number: int, _frame: object) -> None:
    """End the command; further signals must not keep it from stopping its servers."""
    ignore_ending()
    with contextlib.suppress(OSError):  # of a terminal or a pipe that is gone
        print("\nStopping.", flush=True)
    raise KeyboardInterrupt
