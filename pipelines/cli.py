"""The command line ``virtex``; its commands are in pipelines.commands."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from components.core.command import ended
from components.core.errors import InputError
from components.core.paths import PARAMS
from pipelines.commands import COMMANDS
from pipelines.commands.children import CHILD_COMMANDS, become


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, 1 (a stage failed), 2 (bad input) or 130 (stopped)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in CHILD_COMMANDS:
        become(arguments[0], arguments[1:])
    return ended(lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> int:
    options = build_parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    if not PARAMS.is_file():
        raise InputError(f"no {PARAMS} in {Path.cwd()}: run it in the repository's root folder")
    return command(options)


def build_parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    parser = argparse.ArgumentParser(
        prog="virtex", description="From captioned images to a benchmarked backbone."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"pipelines.commands.{name}").add_parser(commands)
    for name, purpose in CHILD_COMMANDS.items():
        commands.add_parser(name, help=purpose, add_help=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
