"""When a stage may start: whose turn it is, and what stages may not share.

Among stages that could all start, first comes what most others wait for, then dvc.yaml's order: so
pretraining starts as soon as its data are there, and the first figures come as soon as it has ended.

Not shared are GPUs beyond their slots, and the memory of the machine. GPUs are found without torch. The locks
are files, so all runs of a user on this machine count together, and a process that is gone holds none. A
stage's own process holds them too: one that outlives its run keeps its GPU until it is stopped.
"""

import contextlib
import fcntl
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from components.core.errors import InputError
from components.core.machine import positive
from pipelines.graph import Stage, StageMeta

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_DEVICE = "VIRTEX_DEVICE"
_TOGETHER_SECONDS = 0.75  # within which those arrive that became free to start at the same moment


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


class Turns:
    """Of one run: how many stages run at a time, and which comes next.

    A stage that needs every core (``meta.cpus: all``) and that more than the last stage waits for has them to
    itself: beside it, nothing starts that fewer wait for.

    Args:
        stages: of the run, in the plan's order; others come last and do not wait for company.
        at_a_time: how many may run.
    """

    def __init__(self, stages: Sequence[Stage], at_a_time: int) -> None:
        self._at_a_time = at_a_time
        self._waited_for = _numbers_waiting(stages)
        self._rank = {stage.name: place for place, stage in enumerate(in_order(stages))}
        self._lock = threading.Lock()
        self._waiting: dict[str, Stage] = {}
        self._lacking: set[str] = set()
        self._running: dict[str, Stage] = {}
        self._opened = 0.0  # when a stage ended that others than the last waited for

    @contextlib.contextmanager
    def turn(self, stage: Stage, keep_waiting: Callable[[], bool]) -> Iterator[Held | None]:
        """Hold a place and what the stage needs, once it is its turn.

        It gets all of it or nothing, so that two never wait for each other.

        Args:
            stage: that wants to start.
            keep_waiting: sleeps a little after a failed attempt; False ends them, and None is yielded.

        Raises:
            InputError: the folder of the locks belongs to somebody else.
        """
        arrived = time.monotonic()
        with self._lock:
            self._waiting[stage.name] = stage
        try:
            while True:
                with contextlib.ExitStack() as locks:
                    got = self._attempt(stage, arrived, locks)
                    if got:
                        yield got
                        return
                if not keep_waiting():
                    yield None
                    return
        finally:
            with self._lock:
                self._waiting.pop(stage.name, None)
                if self._running.pop(stage.name, None) and self._waited_for.get(stage.name, 0) > 1:
                    self._opened = time.monotonic()
                self._lacking.clear()  # what it held is free: they try again, in their order

    def lacks_resources(self, stage: Stage) -> bool:
        """Return whether it would be its turn, and others hold what it needs."""
        return stage.name in self._lacking

    def _attempt(self, stage: Stage, arrived: float, locks: contextlib.ExitStack) -> Held | None:
        with self._lock:
            if not self._is_next(stage, arrived):
                return None
            got = _try(stage.meta, locks)
            if got is None:
                self._lacking.add(stage.name)
                return None
            self._running[stage.name] = self._waiting.pop(stage.name)
            return got

    def _is_next(self, stage: Stage, arrived: float) -> bool:
        if len(self._running) >= self._at_a_time or any(
            self._has_the_machine(other) and self._place(other) < self._place(stage)
            for other in self._running.values()
        ):
            return False
        since = time.monotonic() - max(arrived, self._opened)
        if self._waited_for.get(stage.name) == 1 and since < _TOGETHER_SECONDS:
            return False
        held_up: list[Stage] = []  # those before it that lack something, or wait for one that does
        for other in sorted(self._waiting.values(), key=self._place):
            behind = any(_share(before, other) for before in held_up)
            if other is stage:
                return not behind
            if not behind and other.name not in self._lacking:
                return False
            held_up.append(other)
        return True

    def _place(self, stage: Stage) -> int:
        return self._rank.get(stage.name, len(self._rank))

    def _has_the_machine(self, stage: Stage) -> bool:
        return stage.meta.cpus == "all" and self._waited_for.get(stage.name, 0) > 1


def in_order(stages: Sequence[Stage]) -> list[Stage]:
    """Return the stages of a plan as they are to start where nothing else decides."""
    waited_for = _numbers_waiting(stages)
    return sorted(stages, key=lambda stage: -waited_for[stage.name])


def _numbers_waiting(stages: Sequence[Stage]) -> dict[str, int]:
    """Return how many stages wait for each, directly or through others."""
    below: dict[str, set[str]] = {stage.name: set() for stage in stages}
    for stage in reversed(stages):  # in an order that respects the graph
        for name in stage.upstream:
            if name in below:
                below[name] |= {stage.name, *below[stage.name]}
    return {name: len(waiting) for name, waiting in below.items()}


def _share(one: Stage, other: Stage) -> bool:
    """Return whether both want the memory, or GPUs: then who comes later must not overtake."""
    memory = one.meta.memory_heavy and other.meta.memory_heavy
    return memory or bool(one.meta.gpus and other.meta.gpus and visible_gpus())


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
