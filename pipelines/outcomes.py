"""The outcomes of a run as tables, and where each stage's MLflow run is."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.core.files import write_json
from components.core.paths import MLFLOW_RUN_FILE, REPORT_DIR
from pipelines.graph import Plan, Stage
from pipelines.stage import GOOD_STATES as GOOD_STATES
from pipelines.stage import Outcome
from pipelines.workspace import STATE_DIR

REPORT = REPORT_DIR / "report.md"
REPORT_PAGE = REPORT_DIR / "report.html"
_LAST_RUN = STATE_DIR / "last_run.json"
Row = dict[str, str | float | None]


def rows(root: Path, plan: Plan, outcomes: Mapping[str, Outcome], new_runs: Mapping[str, str]) -> list[Row]:
    """One row a stage, in the plan's order.

    Args:
        root: the repository.
        plan: of the run.
        outcomes: by stage; a stage without one was never started.
        new_runs: ids of the MLflow runs made in this pipeline run, by stage.
    """
    table: list[Row] = []
    for stage in plan.stages:
        outcome = outcomes.get(stage.name, Outcome(stage.name, "not started"))
        table.append(
            {
                "stage": stage.name,
                "state": outcome.state,
                "seconds": round(outcome.seconds, 1),
                "run_id": new_runs.get(stage.name) or recorded_run(root, stage),
            }
        )
    return table


def has_report(plan: Plan, outcomes: Mapping[str, Outcome]) -> bool:
    """Whether the report is one of this run."""
    return any(
        str(REPORT) in stage.outs and stage.name in outcomes and outcomes[stage.name].state in GOOD_STATES
        for stage in plan.stages
    )


def recorded_run(root: Path, stage: Stage) -> str | None:
    """The MLflow run that made the stage's outputs as they are now."""
    for out in stage.outs:
        if Path(out).name == MLFLOW_RUN_FILE:
            try:
                return json.loads((root / out).read_text(encoding="utf-8")).get("run_id")
            except (OSError, ValueError, AttributeError):
                return None
    return None


def as_markdown(table: Sequence[Row], experiment_id: str | None = None) -> str:
    """The rows as Markdown; run ids link into the MLflow UI if the experiment is known."""
    lines = ["| stage | state | seconds | MLflow run |", "|---|---|---:|---|"]
    for row in table:
        run_id = row["run_id"]
        link = run_id if not (run_id and experiment_id) else _link(str(run_id), experiment_id)
        lines.append(f"| {row['stage']} | {row['state']} | {row['seconds']} | {link or ''} |")
    return "\n".join(lines) + "\n"


def as_text(table: Sequence[Row]) -> str:
    """The rows for a terminal."""
    width = max((len(str(row["stage"])) for row in table), default=0)
    return "\n".join(f"  {row['stage']:<{width}}  {row['state']:<11} {row['seconds']:>8} s" for row in table)


def write_states(root: Path, states: Mapping[str, str]) -> None:
    """Note what the last run here did with each of its stages."""
    write_json(root / _LAST_RUN, dict(states))


def read_states(root: Path) -> dict[str, str]:
    """What the last run there did with each of its stages; nothing if there was none."""
    try:
        return dict(json.loads((root / _LAST_RUN).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def last_run_time(root: Path) -> float | None:
    """When that run ended, in seconds of the epoch."""
    try:
        return (root / _LAST_RUN).stat().st_mtime
    except OSError:
        return None


def forget_states(root: Path) -> None:
    """Before a run: one that dies at once must not be taken for the run before it."""
    (root / _LAST_RUN).unlink(missing_ok=True)


def report_text() -> str:
    """The results table of the last run, which has to exist."""
    return REPORT.read_text(encoding="utf-8").rstrip()


def page_line(root: Path, address: str | None) -> str:
    """Where the report's page is, as Markdown: in MLflow if it has an ``address``, else the file."""
    if address:
        return f"[The report as one page]({address})"
    return f"The report as one page: `{root / REPORT_PAGE}`"


def _link(run_id: str, experiment_id: str) -> str:
    return f"[{run_id[:8]}](#/experiments/{experiment_id}/runs/{run_id})"
