"""``virtex ui``: the MLflow and Prefect web pages of this workspace."""

import argparse
import signal
import time
from pathlib import Path
from typing import Any

from components.arguments import positive
from pipelines.servers import servers, use_workspace_server


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("ui", help="start the MLflow and Prefect web pages; Ctrl-C stops them")
    parser.add_argument("--mlflow-port", type=positive, default=5000)
    parser.add_argument("--prefect-port", type=positive, default=4200)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    root = Path.cwd()
    use_workspace_server(root)
    print("Starting; this takes some seconds.", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt_once)
    with servers(root, options.mlflow_port, options.prefect_port) as addresses:
        for name, address in addresses.items():
            print(f"{name:<8} {address}")
        print("Ctrl-C stops what was started here.", flush=True)
        while True:
            time.sleep(1)


def _interrupt_once(_number: int, _frame: object) -> None:
    """End the command; further signals must not keep it from stopping its servers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    print("\nStopping.", flush=True)
    raise KeyboardInterrupt
