"""Mistakes that the user can mend, and the exit statuses of commands and stages that tell them apart."""

import errno

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
EXIT_INPUT_ERROR = 2
EXIT_TEMPORARY = 75  # sysexits.h: "temporary failure, the user is invited to retry"
EXIT_INTERRUPTED = 130


class InputError(ValueError):
    """Bad input: says which file or key, what was expected and what to do.

    Stage entry points and the command line print its message without a traceback and exit with 2;
    everything else is a defect of ours and keeps its traceback.
    """


class TemporaryError(InputError):
    """Nothing is wrong with the input, and the same may succeed later; exits with 75 instead of 2."""


def disk_full_message(error: OSError) -> str | None:
    """Return what to tell where the disk is full; None where that is not the error."""
    if error.errno not in DISK_FULL:
        return None
    where = f" while writing {error.filename}" if error.filename else ""
    return f"the disk is full{where}; free some space"
