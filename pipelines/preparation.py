"""What precedes every run: nothing left over, parameters laid over and checked, the graph planned."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path

from components.core.machine import num_cpus, positive
from components.params import check_params, overlay
from components.params.reading import reasons_not_run
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
    reasons = reasons_not_run(check_params())
    plan = read_plan(targets, allow_missing, reasons)
    if _take_away(plan):
        plan = read_plan(targets, allow_missing, reasons)
    return plan, notices + not_run_lines(plan.not_run)


def _take_away(plan: Plan) -> bool:
    """Results of other data, by stages that are not run, must not be taken for this run's; True if any."""
    others = plan.not_run.keys() - plan.unchanged
    found = [Path(out) for stage in plan.stages if stage.name in others for out in stage.outs]
    there = [out for out in found if out.exists() or out.is_symlink()]
    for out in there:
        shutil.rmtree(out) if out.is_dir() and not out.is_symlink() else out.unlink()
    for out in found:
        out.parent.mkdir(parents=True, exist_ok=True)  # DVC asks for the folder in the name of those below
    return bool(there)


def not_run_lines(not_run: Mapping[str, str]) -> list[str]:
    """For people: the stages that are not run, a line a reason."""
    by_reason: dict[str, list[str]] = {}
    for name, why in not_run.items():
        by_reason.setdefault(why, []).append(name)
    return [f"Not run: {', '.join(sorted(names))} ({why})." for why, names in by_reason.items()]


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
