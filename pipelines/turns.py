"""Whose turn it is among stages that could all start: first what most others wait for, then dvc.yaml's order.

So pretraining starts as soon as its data are there, and the first figures come as soon as it has ended.
"""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from pipelines.graph import Stage
from pipelines.resources import Held, Take, held, visible_gpus

_TOGETHER_SECONDS = 0.75  # within which those arrive that became free to start at the same moment


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

        Args:
            stage: that wants to start.
            keep_waiting: as of `pipelines.resources.held`.
        """
        arrived = time.monotonic()
        with self._lock:
            self._waiting[stage.name] = stage
        try:
            with held(
                stage.meta, keep_waiting, functools.partial(self._attempt, stage, arrived)
            ) as resources:
                yield resources
        finally:
            with self._lock:
                self._waiting.pop(stage.name, None)
                if self._running.pop(stage.name, None) and self._waited_for.get(stage.name, 0) > 1:
                    self._opened = time.monotonic()
                self._lacking.clear()  # what it held is free: they try again, in their order

    def lacks_resources(self, stage: Stage) -> bool:
        """Return whether it would be its turn, and others hold what it needs."""
        return stage.name in self._lacking

    def _attempt(self, stage: Stage, arrived: float, take: Take) -> Held | None:
        with self._lock:
            if not self._is_next(stage, arrived):
                return None
            got = take()
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
