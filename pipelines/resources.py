"""What stages may not share: GPUs beyond their slots, and the memory of the machine.

GPUs are found without torch. The locks are files, so all runs of a user on this machine count together, and a
process that is gone holds none. A stage's own process holds them too: one that outlives its run keeps its GPU
until it is stopped.
"""

import contextlib
import fcntl
import functools
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from components.core.errors import InputError
from components.core.machine import positive
from pipelines.graph import StageMeta

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_DEVICE = "VIRTEX_DEVICE"


def gpu_slots() -> int:
    """Return stages that may share a GPU: ``VIRTEX_GPU_SLOTS``, else one.

    Raises:
        InputError: if the variable is not a positive whole number.
    """
    return positive("VIRTEX_GPU_SLOTS") or 1


def visible_gpus() -> list[str]:
    """Return GPUs as ``CUDA_VISIBLE_DEVICES`` names them: those it lists, else all by their UUID.

    ``VIRTEX_DEVICE`` narrows them: ``cpu`` to none, ``cuda:1`` to the second.
    """
    device = os.environ.get(_DEVICE) or "cuda"
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return []
    listed = os.environ.get(_VISIBLE)
    gpus = _all_gpus() if listed is None else _listed(listed)
    if index:
        return gpus[int(index) : int(index) + 1] if index.isdecimal() else []
    return gpus


def variables_for(chosen: Sequence[str], gpus: Sequence[str]) -> dict[str, str]:
    """Return the environment of a stage that was given ``chosen`` of ``gpus``: it sees no other.

    Nothing on a machine without GPUs.
    """
    if not gpus:
        return {}
    variables = {_VISIBLE: ",".join(chosen)}
    if chosen and ":" in os.environ.get(_DEVICE, ""):
        variables[_DEVICE] = "cuda:0"  # of those it sees
    return variables


def _listed(value: str) -> list[str]:
    """Split as CUDA does, which ignores what follows an invalid entry, such as -1."""
    gpus: list[str] = []
    for entry in value.split(","):
        name = entry.strip()
        if not name or name.startswith("-"):
            break
        gpus.append(name)
    return gpus


def _all_gpus() -> list[str]:
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no driver, no GPU
        return []
    try:
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()


@dataclass(frozen=True, slots=True)
class Held:
    """What a stage got.

    Attributes:
        variables: for its environment.
        files: descriptors of the locks, for its process to keep open.
    """

    variables: dict[str, str] = field(default_factory=dict)
    files: tuple[int, ...] = ()


Take = Callable[[], Held | None]  # an attempt to get what a stage needs


@contextlib.contextmanager
def held(
    meta: StageMeta,
    keep_waiting: Callable[[], bool],
    attempt: Callable[[Take], Held | None] = lambda take: take(),
) -> Iterator[Held | None]:
    """Hold what a stage needs, all of it or nothing, so that two never wait for each other.

    Args:
        meta: of the stage.
        keep_waiting: sleeps a little after a failed attempt; False ends the attempts, and None is yielded.
        attempt: makes an attempt, or does not because it is somebody else's turn.

    Raises:
        InputError: the folder of the locks belongs to somebody else.
    """
    while True:
        with contextlib.ExitStack() as locks:
            got = attempt(functools.partial(_try, meta, locks))
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
