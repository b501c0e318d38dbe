"""The record of a run: the table of its stages, what the last run here did, the flow's MLflow run."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from components.core.files import read_json_object, write_json
from components.tracking.pipeline_run import (
    GOOD_STATES,
    NOT_RUN,
    REPORT,
    REPORT_PAGE,
    PipelineRecord,
    Row,
    create_run,
    table_row,
)
from components.tracking.store import PARENT_RUN_VARIABLE
from pipelines.graph import Plan
from pipelines.stage import Outcome
from pipelines.workspace import STATE_DIR

_LAST_RUN = STATE_DIR / "last_run.json"


def open_record(root: Path, name: str, settings: Mapping[str, object]) -> PipelineRecord:
    """Create the parent run called ``name``, and close those of pipelines that crashed.

    It hangs below the run that ``VIRTEX_PARENT_RUN_ID`` names, if any: that of a family.
    """
    opened = create_run(root, name, "virtex", settings, os.environ.get(PARENT_RUN_VARIABLE))
    return PipelineRecord(root, *(opened or (None, None)))


def rows(root: Path, plan: Plan, outcomes: Mapping[str, Outcome], new_runs: Mapping[str, str]) -> list[Row]:
    """Return one row per stage, in the plan's order.

    Args:
        root: the repository.
        plan: of the run.
        outcomes: by stage; a stage without one was never started.
        new_runs: ids of the MLflow runs made in this pipeline run, by stage.
    """
    table = []
    for stage in plan.stages:
        outcome = outcomes.get(stage.name, Outcome(stage.name, "not started"))
        run_id = new_runs.get(stage.name)
        table.append(table_row(root, stage.name, stage.outs, outcome.state, outcome.seconds, run_id))
    return table


def how_it_ended(names: Iterable[str], states: Mapping[str, str], is_stopped: bool) -> str:
    """Return ``completed`` only if each stage or row is in a good state, else ``failed`` or ``cancelled``."""
    found = {states.get(name) for name in names}
    if found <= set(GOOD_STATES):
        return "completed"
    return "cancelled" if is_stopped and "failed" not in found else "failed"


def has_report(plan: Plan, states: Mapping[str, str]) -> bool:
    """Return whether the report is one of a run that ended with these states of its stages."""
    return any(str(REPORT) in stage.outs and states.get(stage.name) in GOOD_STATES for stage in plan.stages)


def idle_states(plan: Plan) -> dict[str, str]:
    """Return the states of the stages where nothing is to be done for any."""
    return {stage.name: "unchanged" if stage.name in plan.unchanged else NOT_RUN for stage in plan.stages}


def write_states(root: Path, states: Mapping[str, str]) -> None:
    """Note what the last run here did with each of its stages."""
    write_json(root / _LAST_RUN, dict(states))


def read_states(root: Path) -> dict[str, str]:
    """Return what the last run there did with each of its stages; nothing if there was none."""
    return read_json_object(root / _LAST_RUN)


def last_run_time(root: Path) -> float | None:
    """Return when that run ended, in seconds of the epoch."""
    try:
        return (root / _LAST_RUN).stat().st_mtime
    except OSError:
        return None


def forget_states(root: Path) -> None:
    """Forget them before a run: one that crashes at once must not be taken for the run before it."""
    (root / _LAST_RUN).unlink(missing_ok=True)


def report_text() -> str:
    """Return the results table of the last run, which has to exist."""
    return REPORT.read_text(encoding="utf-8").rstrip()


def page_line(root: Path, address: str | None) -> str:
    """Return where the report's page is, as Markdown: in MLflow if it has an ``address``, else the file."""
    if address:
        return f"[The report as one page]({address})"
    return f"The report as one page: `{root / REPORT_PAGE}`"
