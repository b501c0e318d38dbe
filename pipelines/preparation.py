"""What precedes every run: nothing left over, parameters laid over and checked, the graph planned."""

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path

from components.machine import num_cpus, positive
from components.params import check_params, overlay
from pipelines.aftermath import clear_up
from pipelines.graph import Plan, read_plan

_prepared: ContextVar[Plan | None] = ContextVar("prepared", default=None)


def prepare(
    root: Path,
    targets: Sequence[str] = (),
    preset: str | None = None,
    overrides: Sequence[str] = (),
    allow_missing: bool = False,
) -> tuple[Plan, list[str]]:
    """Lay the preset and the overrides over params.yaml, check it, and plan; returns plan and notices.

    To be called with the run lock held and the repository as working directory.

    Raises:
        InputError: before any stage has started.
    """
    notices = clear_up(root)
    if preset is not None or overrides:
        notices += [f"params.yaml: {change}" for change in overlay(preset, list(overrides))]
    else:
        check_params()
    return read_plan(targets, allow_missing), notices


@contextlib.contextmanager
def prepared(plan: Plan) -> Iterator[None]:
    """Within it, ``prepared_plan`` is this one, since the run lock was held from then on."""
    token = _prepared.set(plan)
    try:
        yield
    finally:
        _prepared.reset(token)


def prepared_plan() -> Plan | None:
    """The plan of the command that called the flow; None if nobody has prepared, which takes seconds."""
    return _prepared.get()


def stages_at_a_time() -> int:
    """``VIRTEX_MAX_PARALLEL``, else one a core, four at most.

    Raises:
        InputError: if the variable is not a positive whole number.
    """
    return positive("VIRTEX_MAX_PARALLEL") or min(num_cpus(), 4)
