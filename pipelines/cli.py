"""The command line ``virtex``; its commands are in pipelines.commands."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from components.errors import EXIT_INPUT_ERROR, EXIT_INTERRUPTED, InputError
from components.paths import PARAMS
from pipelines.commands import COMMANDS
from pipelines.commands.children import CHILD_COMMANDS, become


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, 1 (a stage failed), 2 (bad input) or 130 (stopped)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in CHILD_COMMANDS:
        become(arguments[0], arguments[1:])
    options = build_parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        if not PARAMS.is_file():
            raise InputError(f"no {PARAMS} in {Path.cwd()}: run it in the repository's root folder")
        return command(options)
    except InputError as error:
        print(f"virtex: error: {error}", file=sys.stderr)
        return EXIT_INPUT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


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
