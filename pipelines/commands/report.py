"""``virtex report``: the results table of the last run."""

import argparse
from typing import Any

from components.errors import InputError
from pipelines.outcomes import REPORT, report_text


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("report", help="print the results table of the last run")
    parser.set_defaults(command=run)


def run(_: argparse.Namespace) -> int:
    if not REPORT.is_file():
        raise InputError(f"{REPORT} does not exist yet: run `virtex run` first")
    print(report_text())
    return 0
