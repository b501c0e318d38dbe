"""``virtex worker``: run stages for flows on other machines, in this clone."""

import argparse
import socket
from pathlib import Path
from typing import Any

from components.errors import InputError
from pipelines.commands import EXIT_FAILED


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "worker", help="run stages for `virtex run --cluster` elsewhere; Ctrl-C stops it"
    )
    parser.add_argument("scheduler", metavar="ADDRESS", help="of the Dask scheduler, such as tcp://host:8786")
    parser.add_argument(
        "--name", default=socket.gethostname(), help="of this worker, in messages; the host's if not given"
    )
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    try:
        from pipelines.cluster.worker import serve
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed: `pip install -e '.[cluster]'`") from error
    return 0 if serve(Path.cwd(), options.scheduler, options.name) else EXIT_FAILED
