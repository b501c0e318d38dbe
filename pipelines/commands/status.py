"""``virtex status``: what has run, what is stale and why, what it costs to bring it up to date."""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("status", help="what has run, what is stale and why, and what it would cost")
    parser.add_argument("targets", nargs="*", help="stages, with all that they need; none means all")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--all", action="store_true", help="every stage on a line of its own")
    shown.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    from pipelines.status.summary import as_json, read_status
    from pipelines.status.text import all_lines, as_lines

    status = read_status(Path.cwd(), options.targets)
    if options.json:
        print(json.dumps(as_json(status), indent=2, ensure_ascii=False))
    elif options.all:
        print(*all_lines(status), sep="\n")
    else:
        print(*as_lines(status, shutil.get_terminal_size((110, 24)).columns), sep="\n")
    return 0
