"""``virtex report``: the results table of the last run, and where its page is."""

import argparse
from typing import Any

from components.core.errors import InputError
from pipelines.outcomes import REPORT, REPORT_PAGE, report_text


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("report", help="print the results of the last run and where their page is")
    parser.set_defaults(command=run)


def run(_: argparse.Namespace) -> int:
    if not REPORT.is_file():
        raise InputError(f"{REPORT} does not exist yet: run `virtex run` first")
    print(report_text())
    if REPORT_PAGE.is_file():
        print(f"\nPage: {REPORT_PAGE.resolve()}")
    return 0
