"""The command reference: what ``virtex COMMAND --help`` prints, for every command."""

import argparse
import os
from collections.abc import Iterator

from components.core.command import EXIT_STATUS
from pipelines import cli

COLUMNS = "82"  # characters a line of help


def command_parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command and subcommand, by what one types, such as ``virtex preset list``."""
    return dict(_with_subcommands(cli.whole_parser()))


def commands_page() -> str:
    """Return the page."""
    os.environ["COLUMNS"] = COLUMNS
    parts = [
        "# Command reference",
        "What each command's `--help` prints, put here when the guide is built. All run in the repository's "
        "root folder.",
        f"Exit status: {EXIT_STATUS}. `virtex completion` lets a shell complete all of this.",
    ]
    for name, parser in command_parsers().items():
        level = "##" if len(name.split()) <= 2 else "###"
        parts.append(f"{level} {name}\n\n```text\n{parser.format_help().rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def _with_subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield a parser and those below it, without those that only announce another program's arguments."""
    if parser.add_help:
        yield parser.prog, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _with_subcommands(below)
