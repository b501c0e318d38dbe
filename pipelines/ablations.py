"""The flow over a family: each row in a workspace of its own, below one MLflow run, one comparison.

Start it with ``virtex ablate``.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.futures import wait
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from components.params.families import chosen_family
from components.tracking.pipeline_run import RUN_STATUS, Row, create_run
from components.tracking.store import PARENT_RUN_VARIABLE, tracking_uri
from pipelines.notifications import message, notify
from pipelines.process import Stop, stop_on_signals, stop_when
from pipelines.row import (
    GOOD_ROWS,
    ReadyRow,
    RowRunner,
    base_title,
    comparison_figures,
    comparison_text,
    write_comparison,
)
from pipelines.row_workspace import ready_rows, shared_stages, workspace_dir
from pipelines.run import StageError, cancelled_in_prefect
from pipelines.workspace import run_lock, stop_orphans

_RUNNER: Any = ThreadPoolTaskRunner()  # rows are processes; RowRunner holds the number at a time


@task(cache_policy=NO_CACHE, persist_result=False, retries=0)
def row_task(ready: ReadyRow, runner: RowRunner, targets: Sequence[str], width: int) -> State[Any]:
    """One row. An unchanged one costs no process."""
    name, logger = ready.row.name, get_run_logger()
    if ready.plan.pending:
        outcome = runner.run(ready, targets, lambda line: print(f"{name:<{width}} > {line}", flush=True))
    else:
        outcome = runner.skip(ready)
    if outcome.state == "failed":
        logger.error("%s failed:\n%s", name, outcome.message)
        return Failed(message=outcome.message.splitlines()[0])
    if outcome.state not in GOOD_ROWS:
        return Cancelled(message=outcome.message)
    state = "Completed" if outcome.state == "ran" else "Cached"
    return Completed(name=state, message=f"{outcome.state}, {outcome.seconds:.1f} s")


@flow(name="virtex-ablation", flow_run_name="{family}", task_runner=_RUNNER, log_prints=False)
def ablation(
    family: str,
    preset: str | None = None,
    overrides: list[str] | None = None,
    rows: list[str] | None = None,
    targets: list[str] | None = None,
    at_once: int = 1,
) -> State[Any]:
    """Run a family and compare its rows; the working directory's own files stay as they are.

    Args:
        family: its name; ``presets`` compares the presets that ``rows`` names.
        preset: the base of the rows; none means params.yaml as it is.
        overrides: ``section.key=value`` changes of the base.
        rows: which of its rows; none means all.
        targets: stages to bring up to date in each row; none means all.
        at_once: rows at a time.

    A failed row does not stop the others; the comparison says which is missing.

    Raises:
        InputError: bad parameters, or another run of this family.
        StageError: with the failed rows' messages.
    """
    root, stop, logger = Path.cwd(), Stop(), get_run_logger()
    chosen = chosen_family(family, rows or ())
    folder = root / workspace_dir(family)
    with run_lock(folder), stop_on_signals(stop), stop_when(cancelled_in_prefect(), stop):
        for left in stop_orphans(folder):
            logger.info("Stopped orphaned row %s of a crashed run.", left)
        ready = ready_rows(root, chosen, preset, overrides or (), targets or (), stop.is_set)
        settings = {"family": family, "base": base_title(chosen, preset, overrides or ())}
        opened = create_run(root, f"{family} · {time.strftime('%Y-%m-%d %H:%M')}", "ablation", settings)
        variables = _variables(opened[1].run_id if opened else None)
        runner = RowRunner(folder, family, variables, stop, at_once)
        end = "failed"
        try:
            if at_once > 1:
                _run_shared_stages(ready, runner)
            _run_rows(ready, runner, targets or ())
            made = write_comparison(root, chosen, settings["base"], ready, runner.outcomes)
            end = how_it_ended(ready, runner, stop.is_set())
            if opened:
                opened[1].artifact(made, "comparison")
                opened[1].log(comparison_figures(made))
        finally:
            if opened:
                opened[1].close(RUN_STATUS[end])
        create_markdown_artifact(comparison_text(made), key=f"ablation-{family}", description="Comparison")
    errors = {
        outcome.row: outcome.message for outcome in runner.outcomes.values() if outcome.state == "failed"
    }
    table: list[Row] = [
        {"stage": outcome.row, "state": outcome.state, "seconds": round(outcome.seconds, 1)}
        for outcome in runner.outcomes.values()
    ]
    notify(message(f"ablation {family}", end, table, errors, comparison_figures(made)))
    return _final_state(end, errors)


def _variables(run_id: str | None) -> dict[str, str]:
    """What lets the rows, elsewhere on this disk, use the same MLflow store and Prefect server."""
    uri = tracking_uri()
    if uri.startswith("sqlite:///"):
        uri = f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    with get_client(sync_client=True) as client:
        server = str(client.api_url).rstrip("/")
    variables = {"MLFLOW_TRACKING_URI": uri, "PREFECT_API_URL": server}
    return variables | ({PARENT_RUN_VARIABLE: run_id} if run_id else {})


def _run_shared_stages(ready: Sequence[ReadyRow], runner: RowRunner) -> None:
    """Rows side by side would each do what they share: the first that has to does it before they start.

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
    unfinished = set()
    for row in ready:
        named = row_task.with_options(name=name or row.row.name, task_run_name=name or row.row.name)
        unfinished.add(named.submit(row, runner, targets, width, return_state=False))
    while unfinished:  # a thread that waits without end may sleep through its signals
        unfinished = wait(list(unfinished), timeout=0.5).not_done


def how_it_ended(ready: Sequence[ReadyRow], runner: RowRunner, is_stopped: bool) -> str:
    """``completed``, only if each row has a good outcome; else ``failed`` or ``cancelled``."""
    states = {runner.outcomes[r.row.name].state if r.row.name in runner.outcomes else None for r in ready}
    if states <= set(GOOD_ROWS):
        return "completed"
    return "cancelled" if is_stopped and "failed" not in states else "failed"


def _final_state(end: str, errors: Mapping[str, str]) -> State[Any]:
    if end == "cancelled":
        return Cancelled(message="stopped; what was finished is kept, start it again to go on")
    if end == "failed":
        text = "\n\n".join(f"{row}: {error}" for row, error in errors.items())
        text = text or "not all rows were started; Prefect's messages above say why"
        return Failed(message=text, data=StageError(text))
    return Completed()
