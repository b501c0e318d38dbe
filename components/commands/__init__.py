"""Commands of ``virtex`` that need more than pipelines may import, one a module.

``virtex NAME ...`` starts ``python -m components.commands.NAME ...`` with all its arguments; the module is
listed in pipelines/commands/children.py and ends with ``run_command(main)``.
"""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from components.errors import EXIT_INPUT_ERROR, EXIT_INTERRUPTED, InputError
from components.garbage import collect_rarely

EXIT_BROKEN_PIPE = 1
collect_rarely()


def run_command(main: Callable[[], int]) -> NoReturn:
    """Run ``main`` as the process of a command and exit with its status, 2 (bad input) or 130 (stopped).

    A reader that went away, such as ``| head``, ends it with 1 and without a word.
    """
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the interpreter's last flush
        status = EXIT_BROKEN_PIPE
    except InputError as error:
        print(f"virtex: error: {error}", file=sys.stderr)
        status = EXIT_INPUT_ERROR
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    sys.exit(status)
