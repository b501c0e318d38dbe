"""How a flow's end becomes the command's."""

import sys
from typing import Any

from components.core.errors import EXIT_INTERRUPTED
from components.core.redaction import redacted
from pipelines.commands import EXIT_FAILED


def exit_status(state: Any) -> int:
    """The exit status for a flow's final state; says on stderr what is amiss."""
    if state.is_completed():
        return 0
    if state.is_cancelled():
        print(f"virtex: {state.message}", file=sys.stderr)
        return EXIT_INTERRUPTED
    print(f"virtex: error: {redacted(state.message or '')}", file=sys.stderr)
    return EXIT_FAILED
