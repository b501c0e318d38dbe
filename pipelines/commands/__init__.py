"""The larger commands of ``virtex``, and how a flow's end becomes a command's."""

import sys
from typing import Any

from components.core.errors import EXIT_INTERRUPTED
from components.core.foreign_text import said

EXIT_FAILED = 1


def exit_status(state: Any) -> int:
    """Return the exit status for a flow's final state; say on stderr what is amiss."""
    if state.is_completed():
        return 0
    if state.is_cancelled():
        print(f"virtex: {said(state.message)}", file=sys.stderr)
        return EXIT_INTERRUPTED
    print(f"virtex: error: {said(state.message or '')}", file=sys.stderr)
    return EXIT_FAILED
