"""``virtex cluster`` and ``virtex worker``: the programs on the machines that stages run on."""

import argparse
import os
import socket
import sys
from pathlib import Path
from typing import Any

from components.core.command import positive
from components.core.machine import LOOPBACK
from pipelines.commands import EXIT_FAILED
from pipelines.runners import installed

PORT = 8786  # Dask's own


def add_parser(commands: Any) -> None:
    cluster = commands.add_parser("cluster", help="certificates and scheduler of a cluster of machines")
    commands = cluster.add_subparsers(required=True, metavar="ACTION")
    make = commands.add_parser("certificates", help="make what all machines of a cluster know each other by")
    make.add_argument("hosts", nargs="+", metavar="HOST", help="name or IP address of a machine")
    make.set_defaults(command=_make_certificates)
    scheduler = commands.add_parser("scheduler", help="start Dask's scheduler; Ctrl-C stops it")
    scheduler.add_argument(
        "--host", default=LOOPBACK, help="address to listen on; any but the loopback one takes certificates"
    )
    scheduler.add_argument("--port", type=positive, default=PORT)
    scheduler.set_defaults(command=_scheduler)


def add_worker_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "worker", help="run stages for `virtex run --cluster` elsewhere; Ctrl-C stops it"
    )
    parser.add_argument("scheduler", metavar="ADDRESS", help="of the Dask scheduler, such as tls://host:8786")
    parser.add_argument(
        "--name", default=socket.gethostname(), help="of this worker, in messages; the host's if not given"
    )
    parser.set_defaults(command=_worker)


def _make_certificates(options: argparse.Namespace) -> int:
    with installed():
        from pipelines.cluster.security import FOLDER_VARIABLE, make_certificates
    folder = make_certificates(Path.cwd(), options.hosts)
    print(
        f"{folder}: made. Copy it, in a safe way, to the same place in the clone on each machine of the "
        f"cluster, or elsewhere with {FOLDER_VARIABLE} set. Whoever has key.pem can run programs on them all."
    )
    return 0


def _scheduler(options: argparse.Namespace) -> int:
    with installed():
        from pipelines.cluster.security import scheduler_command
    command = scheduler_command(Path.cwd(), options.host, options.port)
    sys.stdout.flush()
    os.execv(command[0], command)  # signals and the exit status are its own


def _worker(options: argparse.Namespace) -> int:
    with installed():
        from pipelines.cluster.worker import serve
    return 0 if serve(Path.cwd(), options.scheduler, options.name) else EXIT_FAILED
