"""The flow over a family, that of ``virtex ablate``: rows below one MLflow run, and their comparison."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from components.core.errors import first_line
from components.core.redaction import redacted
from components.tracking.pipeline_run import GOOD_STATES, RUN_STATUS, Row, create_run
from components.tracking.store import PARENT_RUN_VARIABLE, tracking_uri
from pipelines.comparison import comparison_figures, comparison_text, write_comparison
from pipelines.experiments import FamilyRun, ReadyRow, shared_stages
from pipelines.notifications import message, notify
from pipelines.prefect_runs import cancelled_in_prefect
from pipelines.process import Stop, stop_on_signals, stop_when
from pipelines.record import how_it_ended
from pipelines.row import RowRunner
from pipelines.run import final_state, wait_for_all

_RUNNER: Any = ThreadPoolTaskRunner()  # rows are processes; RowRunner holds the number at a time


@task(cache_policy=NO_CACHE, persist_result=False, retries=0)
def row_task(ready: ReadyRow, runner: RowRunner, targets: Sequence[str], width: int) -> State[Any]:
    """Run one row. An unchanged one costs no process."""
    name, logger = ready.row.name, get_run_logger()
    if ready.plan.pending:
        outcome = runner.run(ready, targets, lambda line: print(f"{name:<{width}} > {line}", flush=True))
    else:
        outcome = runner.skip(ready)
    if outcome.state == "failed":
        logger.error("%s failed:\n%s", name, outcome.message)
        return Failed(message=first_line(outcome.message))
    if outcome.state not in GOOD_STATES:
        return Cancelled(message=outcome.message)
    state = "Completed" if outcome.state == "ran" else "Cached"
    return Completed(name=state, message=f"{outcome.state}, {outcome.seconds:.1f} s")


def family_flow(run: FamilyRun, ready: Sequence[ReadyRow]) -> Any:
    """Return the flow over the rows, which a command that holds the family's folder has prepared.

    Its parameters are for Prefect to show.
    """

    @flow(name="virtex-ablation", flow_run_name=run.family.name, task_runner=_RUNNER, log_prints=False)
    def ablation(rows: list[str], base: str, targets: list[str], at_once: int) -> State[Any]:
        """Run a family and compare its rows; a failed one does not stop the others.

        Raises:
            StageError: with the failed rows' messages.
        """
        stop = Stop()
        with stop_on_signals(stop), stop_when(cancelled_in_prefect(), stop):
            runner, end, made = _run_and_record(run, ready, stop)
        return _tell(run, runner, end, made)  # outside, as the end of pipelines.run

    return ablation


def _run_and_record(run: FamilyRun, ready: Sequence[ReadyRow], stop: Stop) -> tuple[RowRunner, str, Path]:
    """Run the rows below one MLflow run, which has their comparison; returns its folder, too."""
    family = run.family.name
    settings = {"family": family, "base": run.base}
    opened = create_run(run.root, f"{family} · {time.strftime('%Y-%m-%d %H:%M')}", "ablation", settings)
    variables = _variables(opened[1].run_id if opened else None)
    runner = RowRunner(run, variables, stop)
    end = "failed"
    try:
        if run.at_once > 1:
            _run_shared_stages(ready, runner)
        _run_rows(ready, runner, run.targets)
        made = write_comparison(run, ready, runner.outcomes)
        states = {name: outcome.state for name, outcome in runner.outcomes.items()}
        end = how_it_ended((row.row.name for row in ready), states, stop.is_set())
        if opened:
            opened[1].artifact(made, "comparison")
            opened[1].log(comparison_figures(made))
    finally:
        if opened:
            opened[1].close(RUN_STATUS[end])
    return runner, end, made


def _tell(run: FamilyRun, runner: RowRunner, end: str, made: Path) -> State[Any]:
    outcomes = runner.outcomes.values()
    errors = {outcome.row: redacted(outcome.message) for outcome in outcomes if outcome.state == "failed"}
    table: list[Row] = [
        {"stage": outcome.row, "state": outcome.state, "seconds": round(outcome.seconds, 1)}
        for outcome in outcomes
    ]
    notify(message(f"ablation {run.family.name}", end, table, errors, comparison_figures(made)))
    create_markdown_artifact(
        comparison_text(made), key=f"ablation-{run.family.name}", description="Comparison"
    )
    return final_state(end, [f"{row}: {error}" for row, error in errors.items()], "rows")


def _variables(run_id: str | None) -> dict[str, str]:
    """Return what lets the rows, elsewhere on this disk, use the same MLflow store and Prefect server."""
    uri = tracking_uri()
    if uri.startswith("sqlite:///"):
        uri = f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    with get_client(sync_client=True) as client:
        server = str(client.api_url).rstrip("/")
    variables = {"MLFLOW_TRACKING_URI": uri, "PREFECT_API_URL": server}
    return variables | ({PARENT_RUN_VARIABLE: run_id} if run_id else {})


def _run_shared_stages(ready: Sequence[ReadyRow], runner: RowRunner) -> None:
    """Run what rows share, which side by side each would do, in the first that has to before they start.

    How it ends is of no account, since every row tries again what it still lacks.
    """
    waiting = [row for row in ready if row.plan.pending]
    if len(waiting) < 2:
        return
    stages = [name for name in shared_stages(ready) if name in waiting[0].plan.pending]
    if stages:
        _run_rows(waiting[:1], runner, stages, "shared stages")


def _run_rows(
    ready: Sequence[ReadyRow], runner: RowRunner, targets: Sequence[str], name: str | None = None
) -> None:
    width = max(len(row.row.name) for row in ready)
    futures = []
    for row in ready:
        named = row_task.with_options(name=name or row.row.name, task_run_name=name or row.row.name)
        futures.append(named.submit(row, runner, targets, width, return_state=False))
    wait_for_all(futures)
