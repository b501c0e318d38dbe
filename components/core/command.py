"""What all `virtex` commands share: their parser, types of arguments, and how a process ends.

It ends with a status, and with a traceback for our own defects alone.
"""

import argparse
import io
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.core.errors import EXIT_INPUT_ERROR, EXIT_INTERRUPTED, InputError, machine_message
from components.core.foreign_text import said
from components.core.process import raise_interrupts
from components.params.reading import nearest

EXIT_BROKEN_PIPE = 1
EXIT_STATUS = (  # of every command
    "0 done; 1 not all of it: a stage failed, a file was skipped, something is broken or stale; "
    "2 bad input; 130 stopped"
)


class Parser(argparse.ArgumentParser):
    """A parser that says what a mistyped command, choice or option resembles."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            hint = nearest(value, [choice for choice in action.choices if isinstance(choice, str)])
            raise argparse.ArgumentError(action, f"no {value!r}{hint}")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse; of a subcommand too, whatever it does not know is an error that shows its own usage."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            is_option = unknown[0].startswith("-")
            hint = nearest(unknown[0], self._option_string_actions) if is_option else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return options, unknown


def ended(command: Callable[[], int]) -> int:
    r"""Return the status of a command, or 2 (bad input, a place that cannot be used), or 130 (stopped).

    A reader that went away, such as ``| head``, ends it with 1 and no message. File names of bytes that
    are no UTF-8 are printed with ``\udcXX`` in their place, which in JSON is their escape.
    """
    raise_interrupts()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            return command()
        finally:
            sys.stdout.flush()
    except InputError as error:
        return _failed(str(error))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the interpreter's last flush
            return EXIT_BROKEN_PIPE
        if message := machine_message(error):
            return _failed(message)
        raise


def _reader_is_gone() -> bool:
    """Return whether it was standard output's pipe that broke, and not a connection to a server."""
    watched = select.poll()
    try:
        watched.register(sys.stdout.fileno(), 0)  # what is wrong with it is reported always
    except io.UnsupportedOperation:  # no file
        return False
    return any(events & select.POLLERR for _, events in watched.poll(0))


def _failed(message: str) -> int:
    print(f"virtex: error: {said(message)}", file=sys.stderr)
    return EXIT_INPUT_ERROR


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def folder(text: str) -> Path:
    """Parse a folder to write into, which may have to be made first."""
    path = Path(text)
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise argparse.ArgumentTypeError(f"{place} is a file; expected a folder, there already or new")
    return path


def writable(text: str) -> Path:
    """Parse a file or folder to write, whose folder may have to be made first."""
    folder(str(Path(text).parent))
    return Path(text)
