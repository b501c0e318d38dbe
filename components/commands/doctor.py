"""``virtex doctor``: whether this machine can do what params.yaml asks for, and what to do where not."""

import argparse
import dataclasses
import json
import shutil

from components import paths
from components.commands import run_command
from components.doctor.examination import examine, shown, summary
from components.errors import InputError

EXIT_BROKEN = 1


def main() -> int:
    """Returns 1 if something that the active parameters need is broken."""
    options = build_parser().parse_args()
    if not paths.PARAMS.is_file():
        raise InputError(f"no {paths.PARAMS} here: run it in the repository's root folder")
    width = shutil.get_terminal_size((110, 24)).columns
    findings = []
    for finding in examine():
        findings.append(finding)
        if not options.json:
            print(shown(finding, width), flush=True)
    if options.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        print(f"\n{summary(findings)}")
    return EXIT_BROKEN if any(finding.state == "broken" for finding in findings) else 0


def build_parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    parser = argparse.ArgumentParser(prog="virtex doctor", description="Check this machine.")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser


if __name__ == "__main__":
    run_command(main)
