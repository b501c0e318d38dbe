"""``virtex worker``: run stages for flows on other machines, in this clone."""

import argparse
import socket
from pathlib import Path
from typing import Any

from pipelines.commands import EXIT_FAILED
from pipelines.runners import installed


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
    with installed():
        from pipelines.cluster.worker import serve
    return 0 if serve(Path.cwd(), options.scheduler, options.name) else EXIT_FAILED
