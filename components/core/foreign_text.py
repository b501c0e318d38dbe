"""Texts of strangers (names, captions, messages), harmless where they are shown: terminals, Markdown, tables.

Pages escape all that they show by themselves (components.report.html).
"""

import re
from pathlib import PurePath

from components.core.redaction import redacted

# Control characters, of which a terminal may obey some, line separators, marks that turn the direction of
# what follows, and halves of characters, which no file takes. Joiners stay: scripts and emoji need them.
_OBEYED = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKUP = re.compile(r"\\(?=[!-/:-@\[-`{-~])|<(?=[A-Za-z/!?])|\](?=[(\[:])")
_LINE_START = re.compile(r"^(?=\s*(?:#|>|~~~|=+\s*$|[-+*]\s|\d+[.)]\s))(\s*\d*)")
# Text that spreadsheets take for a formula, and what is marked as text already.
_FORMULA = re.compile(r"\s*[=+\-@'\uff0b\uff0d\uff1d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d[\d.]*(e[+-]?\d+)?|inf|nan)", re.IGNORECASE)


def printable(text: object, kept: str = "") -> str:
    r"""Return a text as any terminal and file takes it, in one line: an escape as ``\x1b``.

    Args:
        text: or what has one, such as a path.
        kept: control characters that stay, such as the line ends of a message.
    """
    return _OBEYED.sub(lambda match: match[0] if match[0] in kept else ascii(match[0])[1:-1], str(text))


def said(message: str) -> str:
    """Return a message, of one line or several, as it may be shown: without secrets, and printable."""
    return printable(redacted(message), kept="\n\t")


def markdown_text(text: object) -> str:
    """Return a text as Markdown of one line that has no HTML and no links; emphasis stays."""
    return _MARKUP.sub(r"\\\g<0>", printable(" ".join(str(text).splitlines())))


def not_a_block(line: str) -> str:
    """Return a line of running Markdown text so that it begins no heading, list, quotation or rule."""
    return _LINE_START.sub(r"\1\\", line)


def table_cell(value: object) -> object:
    """Return a value of a CSV file; a quote sign marks as text what spreadsheets would compute."""
    if not isinstance(value, str | PurePath):
        return value
    text = printable(value)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def from_table_cell(cell: str) -> str:
    """Return the text that ``table_cell`` was given, but for control characters."""
    return cell.removeprefix("'")
