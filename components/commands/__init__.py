"""Commands of ``virtex`` that need more than pipelines may import, one per module.

``virtex NAME ...`` starts ``python -m components.commands.NAME ...`` with all its arguments; the module is
listed in pipelines/cli.py and ends with ``run_command(main)``.
"""

import sys
from collections.abc import Callable
from typing import NoReturn

from components.core.command import ended
from components.core.process import collect_rarely, end_at_once

collect_rarely()
end_at_once()


def run_command(main: Callable[[], int]) -> NoReturn:
    """Run ``main`` as the process of a command and exit with its status (components.core.command)."""
    sys.exit(ended(main))
