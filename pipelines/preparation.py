"""What precedes every run: a crashed run cleared up, parameters laid over and checked, the graph planned."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.core.dvc_cache import CHECKED, cache_folder, largest_checked, repair
from components.core.errors import InputError
from components.core.files import remove
from components.core.logs import own_logger
from components.core.machine import num_cpus, positive
from components.params import check_params, overlay
from components.params.reading import reasons_not_run
from components.tracking.store import open_store
from pipelines.dvc_files import RWLOCK, is_rwlock_damaged
from pipelines.dvc_internals import check_out, read_plan
from pipelines.graph import Plan
from pipelines.workspace import STATE_DIR, crashed_before, noted_stages, stop_orphans

_logger = own_logger(__name__)
CRASHED_FLOW_RUN = STATE_DIR / "crashed_flow_run"  # its id, until a server can be told
_MOMENT_SECONDS = 0.2


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
    notices += repair(cache_folder(root), largest_checked(), root / CHECKED)
    plan = read_plan(targets, allow_missing, reasons)
    if _take_away(plan):
        plan = read_plan(targets, allow_missing, reasons)
    return plan, [*notices, *_drop_dead_links(plan), *not_run_lines(plan.not_run)]


def _drop_dead_links(plan: Plan) -> list[str]:
    """Remove links of stages to be run into a cache that is gone, for which DVC would refuse any run."""
    outs = [Path(out) for stage in plan.stages if stage.name not in plan.unchanged for out in stage.outs]
    dead = [
        path for out in outs for path in (out, *out.rglob("*")) if path.is_symlink() and not path.exists()
    ]
    for path in dead:
        path.unlink()
    what = f"{len(dead)} links ({dead[0]} and others)" if dead else ""
    return [f"Removed {what}: DVC's cache has lost what they led to."] if dead else []


def _take_away(plan: Plan) -> bool:
    """Remove results of other data, by stages that are not run: none may pass for this run's; True if any."""
    others = plan.not_run.keys() - plan.unchanged
    found = [Path(out) for stage in plan.stages if stage.name in others for out in stage.outs]
    there = [out for out in found if out.exists() or out.is_symlink()]
    for out in there:
        remove(out)
    for out in found:
        out.parent.mkdir(parents=True, exist_ok=True)  # DVC asks for the folder in the name of those below
    return bool(there)


def not_run_lines(not_run: Mapping[str, str]) -> list[str]:
    """Tell people the stages that are not run, a line per reason."""
    by_reason: dict[str, list[str]] = {}
    for name, why in not_run.items():
        by_reason.setdefault(why, []).append(name)
    return [f"Not run: {', '.join(sorted(names))} ({why})." for why, names in by_reason.items()]


def stages_at_a_time() -> int:
    """Return ``VIRTEX_MAX_PARALLEL``, else one per core, four at most.

    Raises:
        InputError: if the variable is not a positive whole number.
    """
    return positive("VIRTEX_MAX_PARALLEL") or min(num_cpus(), 4)


def clear_up(root: Path) -> list[str]:
    """Stop the processes of a crashed run, put their stages' outputs back, and close its MLflow runs.

    To be called with the run lock held. Returns notices for people, none if nothing crashed.
    """
    interrupted = noted_stages(root)
    notices = [f"Stopped orphaned stage {stage} of a crashed run." for stage in stop_orphans(root)]
    notices += _drop_damaged_rwlock(root)
    if interrupted:
        notices += _put_back(interrupted)
    with crashed_before(root) as holder:
        if holder is not None:
            who = f"process {holder.get('pid', 'unknown')}, started {holder.get('started', 'at some time')}"
            notices.insert(0, f"The run before this one ({who}) crashed.")
            notices += _close_mlflow_runs()
            if holder.get("flow_run"):
                (root / CRASHED_FLOW_RUN).write_text(str(holder["flow_run"]), encoding="utf-8")
    return notices


def _drop_damaged_rwlock(root: Path) -> list[str]:
    """Remove DVC's list of files in use where a killed DVC left half of it: DVC refuses any work then."""
    for _ in range(2):  # that of a DVC at work is whole a moment later
        if not is_rwlock_damaged(root):
            return []
        time.sleep(_MOMENT_SECONDS)
    (root / RWLOCK).unlink(missing_ok=True)
    return [f"Removed {RWLOCK}, which a killed DVC had left half-written."]


def _put_back(stages: Sequence[str]) -> list[str]:
    """Put earlier outputs back: half-written ones must not pass for results before the stage runs again."""
    try:
        check_out(stages)
    except InputError as error:
        return [f"The earlier outputs of {', '.join(stages)} could not all be put back: {error}"]
    return []


def _close_mlflow_runs() -> list[str]:
    try:
        from components.tracking.provenance import close_orphaned_runs

        closed = close_orphaned_runs(open_store())
    except Exception as error:
        _logger.warning("MLflow runs of a crashed run stay open (%s)", type(error).__name__)
        return []
    return [f"Closed {len(closed)} MLflow runs of it."] if closed else []
