"""Mistakes that the user can mend, and the exit statuses of commands and stages that tell them apart."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
EXIT_INPUT_ERROR = 2
EXIT_TEMPORARY = 75  # sysexits.h: "temporary failure, the user is invited to retry"
EXIT_INTERRUPTED = 130
FREES_SPACE = (
    "free some: `dvc gc --workspace` drops results that no configuration here needs, .scratch has "
    "checkpoints of unfinished trainings, datasets/unpacked is made again; or link a folder to a larger disk"
)
_FREES_MEMORY = (
    "lower the stage's batch_size or the size of its model in params.yaml, or VIRTEX_NUM_WORKERS, or end "
    "other programs, and start again"
)
_FULL_WORDS = (*map(os.strerror, DISK_FULL), "database or disk is full")  # in errors of libraries' own
_NO_MEMORY_WORDS = ("can't allocate memory", "out of memory", os.strerror(errno.ENOMEM))
_OF_PLACES = (  # what the system answers about a place that a user chose
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTEMPTY),
)
_TIGHT_BYTES = 1_000_000  # of a disk that counts as full
_SHOWN = 200  # characters of what a library says


class InputError(ValueError):
    """Bad input: says which file or key, what was expected and what to do.

    Stage entry points and the command line print its message without a traceback and exit with 2;
    everything else is a defect of ours and keeps its traceback.
    """


class TemporaryError(InputError):
    """Nothing is wrong with the input, and the same may succeed later; exits with 75 instead of 2."""


def machine_message(error: BaseException) -> str | None:
    """Return what to tell where the machine refused: a full disk, memory, a place; None for other errors.

    Libraries wrap what the system said, so the causes of the error are looked at too.
    """
    chain = list(_causes(error))
    for cause in chain:
        if _is_full(cause):
            return _full_disk_message(chain)
    for cause in chain:
        said = first_line(cause)
        if isinstance(cause, MemoryError) or any(words in said for words in _NO_MEMORY_WORDS):
            return f"out of memory ({said[:_SHOWN] or 'MemoryError'}); {_FREES_MEMORY}"
    if not isinstance(error, OSError) or not isinstance(error.filename, str | bytes):
        return None
    place = f"{os.fsdecode(error.filename)}: {error.strerror}"
    if error.errno == errno.EIO:
        return f"{place}; the disk fails, the system's log says more"
    return f"{place}; make it usable, or name another place" if error.errno in _OF_PLACES else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    seen: set[int] = set()
    while found is not None and id(found) not in seen:
        yield found
        seen.add(id(found))
        found = found.__cause__ or found.__context__


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in DISK_FULL
    return any(words in str(error) for words in _FULL_WORDS)


def _full_disk_message(chain: list[BaseException]) -> str:
    names = (cause.filename for cause in chain if isinstance(cause, OSError))
    named = [os.fsdecode(name) for name in names if isinstance(name, str | bytes)]
    if named:
        return f"the disk is full while writing {named[0]}; {FREES_SPACE}"
    full = [str(place.resolve()) for place in _written_places() if _room(place) < _TIGHT_BYTES]
    return f"the disk is full{f' (that of {full[0]})' if full else ''}; {FREES_SPACE}"


def _written_places() -> Iterator[Path]:
    """Yield the folders that stages and commands write into."""
    for name in (".", ".dvc/cache", ".scratch", "data", "datasets", "outputs", "mlartifacts", ".virtex"):
        if Path(name).is_dir():
            yield Path(name)
    yield Path(tempfile.gettempdir())


def _room(place: Path) -> int:
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return _TIGHT_BYTES


def first_line(message: object) -> str:
    """Return the first line of what an error says, as far as a line of ours has room for it; may be empty."""
    return (str(message).strip().splitlines() or [""])[0][:300]
