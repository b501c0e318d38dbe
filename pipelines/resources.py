"""What stages may not share: GPUs beyond their slots, and the memory of the machine.

The locks are files, so all runs of a user on this machine count together, and a dead process holds none. A
stage's own process holds them too: one that outlives its run keeps its GPU until it is ended.
"""

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from components.core.errors import InputError
from pipelines.gpus import gpu_slots, variables_for, visible_gpus
from pipelines.stage_meta import StageMeta


@dataclass(frozen=True, slots=True)
class Held:
    """What a stage got.

    Attributes:
        variables: for its environment.
        files: descriptors of the locks, for its process to keep open.
    """

    variables: dict[str, str] = field(default_factory=dict)
    files: tuple[int, ...] = ()


@contextlib.contextmanager
def held(meta: StageMeta, keep_waiting: Callable[[], bool]) -> Iterator[Held | None]:
    """Hold what a stage needs, all of it or nothing, so that two never wait for each other.

    Args:
        meta: of the stage.
        keep_waiting: sleeps a little after each attempt in vain; False gives up, and None is yielded.

    Raises:
        InputError: the folder of the locks belongs to somebody else.
    """
    while True:
        with contextlib.ExitStack() as locks:
            got = _try(meta, locks)
            if got:
                yield got
                return
        if not keep_waiting():
            yield None
            return


def _try(meta: StageMeta, locks: contextlib.ExitStack) -> Held | None:
    files: list[int] = []
    if meta.memory_heavy and not _lock("memory", locks, files):
        return None
    gpus = visible_gpus()
    chosen: list[str] = []
    if meta.gpus == "all":
        slots = range(gpu_slots())
        if not all(_lock(_slot(gpu, number), locks, files) for gpu in gpus for number in slots):
            return None
        chosen = gpus
    elif meta.gpus:
        for number in range(gpu_slots()):  # the emptier GPUs first
            for gpu in gpus:
                if len(chosen) < meta.gpus and gpu not in chosen and _lock(_slot(gpu, number), locks, files):
                    chosen.append(gpu)
        if len(chosen) < min(meta.gpus, len(gpus)):
            return None
    return Held(variables_for(chosen, gpus), tuple(files))


def _slot(gpu: str, number: int) -> str:
    return f"gpu-{hashlib.sha256(gpu.encode()).hexdigest()[:16]}-{number}"


def _lock(name: str, locks: contextlib.ExitStack, files: list[int]) -> bool:
    descriptor = os.open(_folder() / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    locks.callback(os.close, descriptor)
    files.append(descriptor)
    return True


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"virtex-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise InputError(f"{folder} belongs to another user: set TMPDIR to a folder of your own")
    return folder
