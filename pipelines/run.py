"""The flow: DVC's graph as Prefect tasks, below one MLflow run.

Start it with ``virtex run``; without ``PREFECT_API_URL`` that uses a temporary server.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from prefect import allow_failure, flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field, WithJsonSchema

from components.core.errors import InputError, first_line, machine_message
from components.core.redaction import redacted
from components.params import list_presets
from components.tracking.pipeline_run import (
    NOT_RUN,
    OWN_PARAMETERS,
    REPORT,
    PipelineRecord,
    in_words,
    parameters_in_words,
    preset_in_force,
    run_name,
)
from components.tracking.store import PARENT_RUN_VARIABLE
from pipelines.graph import Plan, Stage
from pipelines.notifications import errors_announced, message, notify, results
from pipelines.prefect_runs import (
    StageNews,
    cancelled_in_prefect,
    clear_up_after,
    flow_run_page,
    mark_crashed,
    prefect_says_it_once,
    publish,
)
from pipelines.preparation import prepare, stages_at_a_time
from pipelines.process import Stop, stop_on_signals, stop_when
from pipelines.record import has_report, how_it_ended, open_record, rows, write_states
from pipelines.runners import Place, Runner, cluster_address, stage_runner
from pipelines.stage import Outcome
from pipelines.status.text import Progress
from pipelines.workspace import run_lock

_STATE_NAMES = {NOT_RUN: "NotRun", "unchanged": "Cached", "restored": "Restored", "ran": "Completed"}
# Threads, since stages are processes; the runner holds the number of stages at a time.
_RUNNER: Any = ThreadPoolTaskRunner()


def _preset_schema() -> dict[str, object]:
    """Allow the presets that there are when the flow is loaded; any text if there are none."""
    presets = list_presets()
    return {"type": "string", "enum": presets} if presets else {"type": "string"}


Preset = Annotated[str, WithJsonSchema(_preset_schema())]
Override = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+\s*=")]
Target = Annotated[str, Field(pattern=r"^\S+$")]
AtLeastOne = Annotated[int, Field(ge=1)]
Cluster = Annotated[str, Field(pattern=r"^\w+://\S+$")]


class StageError(RuntimeError):
    """Stages that failed, in their own words."""


def _flow_run_name() -> str:
    asked = runtime.flow_run.parameters or {}
    preset, changes = asked.get("preset"), asked.get("set") or ()
    try:
        if not preset and not changes:
            return run_name(parameters_in_words())
        return run_name(in_words(preset or preset_in_force(), changes))  # may not be in force yet
    except Exception:  # of params.yaml, of which the flow speaks: here it would crash without a message
        return run_name(OWN_PARAMETERS)


@task(cache_policy=NO_CACHE, persist_result=False, retries=0)
def stage_task(
    stage: Stage,
    runner: Runner,
    progress: Progress,
    unchanged: bool,
    may_fail: Sequence[Stage],
    not_run: str | None = None,
) -> State[Any]:
    """Run a DVC stage. An unchanged one costs no process; ``may_fail`` are stages above it.

    ``not_run`` is why it is not to be run; its results are not there then.
    """
    logger = get_run_logger()
    if not_run and not unchanged:
        return Completed(name=_STATE_NAMES[NOT_RUN], message=runner.leave_out(stage, not_run).message)
    absent = [above for above in may_fail if not runner.has_results(above)]
    if absent:
        logger.warning("%s goes on without %s", stage.name, ", ".join(above.name for above in absent))
    with StageNews(stage, logger.info) as news:
        outcome = runner.skip(stage) if unchanged else runner.run(stage, news.line, absent)
        words = redacted(outcome.message)
        if outcome.state == "failed":
            logger.error("%s failed:\n%s", stage.name, words)
            news.failed(first_line(words))
            return Failed(message=first_line(words))
    if outcome.state in ("stopped", "not started"):
        return Cancelled(message=words)
    if not unchanged:
        logger.info("%s", progress.line(runner.outcomes))
    return Completed(name=_STATE_NAMES[outcome.state], message=f"{outcome.state}, {outcome.seconds:.1f} s")


def pipeline_flow(prepared: Plan | None = None) -> Any:
    """Return the flow.

    Args:
        prepared: the plan of a command that holds the workspace and has prepared it. A flow without one, as
            Prefect starts it for a deployment, prepares for itself.
    """

    @flow(
        name="virtex",
        flow_run_name=_flow_run_name,
        task_runner=_RUNNER,
        log_prints=False,
        on_cancellation=[clear_up_after],
        on_crashed=[clear_up_after],
    )
    def virtex(
        targets: list[Target] | None = None,
        preset: Preset | None = None,
        set: list[Override] | None = None,
        force: bool = False,
        max_parallel: AtLeastOne | None = None,
        cluster: Cluster | None = None,
    ) -> State[Any]:
        """Run the pipeline in the working directory.

        Args:
            targets: stages to bring up to date; none means all.
            preset: overlay on params.yaml, by name; stays in force afterwards.
            set: ``section.key=value`` changes on top of it.
            force: run the stages even if they are unchanged.
            max_parallel: stages at a time; none means ``VIRTEX_MAX_PARALLEL``, else one per core, at most 4.
            cluster: Dask scheduler whose workers run the stages, ``tls://host:8786``; none means
                ``VIRTEX_CLUSTER``, else this machine.

        Stages that do not depend on a failed one still run.

        Raises:
            InputError: bad parameters, or another run in this workspace.
            StageError: with the failed stages' own messages.
        """
        settings = {"targets": targets, "preset": preset, "set": set, "force": force}
        try:
            tell = _prepare_and_run(prepared, settings, cluster, max_parallel)
        except Exception as error:
            if words := str(error) if isinstance(error, InputError) else machine_message(error):
                return Failed(message=redacted(words), data=InputError(words))
            raise
        return tell()  # outside, where the command watches whether Prefect's server still answers

    return virtex


virtex = pipeline_flow()  # for deployments, which name it by its place


def _prepare_and_run(
    prepared: Plan | None, settings: Mapping[str, Any], cluster: str | None, max_parallel: int | None
) -> Callable[[], State[Any]]:
    root, stop, me = Path.cwd(), Stop(), runtime.flow_run
    watch = stop_when(cancelled_in_prefect(), stop)
    with errors_announced(me.name), run_lock(root, me.id), stop_on_signals(stop), watch:
        cluster = cluster_address(cluster)
        plan, notices = prepared, list[str]()
        if plan is None:
            asked = settings["targets"] or (), settings["preset"], settings["set"] or ()
            plan, notices = prepare(root, *asked, allow_missing=bool(cluster))
        mark_crashed(root)
        for notice in notices:
            get_run_logger().info(redacted(notice))
        return _run_plan(plan, settings, Place(root, cluster, max_parallel), stop)


def _run_plan(plan: Plan, settings: Mapping[str, Any], place: Place, stop: Stop) -> Callable[[], State[Any]]:
    """Open the record, run the stages, close the record; returns what tells whoever wants to know."""
    root, force, me = place.root, bool(settings["force"]), runtime.flow_run
    unchanged = plan.unchanged & plan.not_run.keys() if force else plan.unchanged
    to_do = {stage.name for stage in plan.stages} - {*unchanged, *plan.not_run}
    idle = not to_do
    if idle:
        record, place = PipelineRecord(root, None, None), Place(root, None, place.max_parallel)
    else:
        name = run_name(parameters_in_words(settings["preset"], settings["set"] or ()))
        record = open_record(root, name, settings)
    variables = {PARENT_RUN_VARIABLE: record.run_id or ""}  # empty: stages make no parent of their own
    outcomes: dict[str, Outcome] = {}
    end = "failed"
    try:
        with stage_runner(place, plan, unchanged, variables, force, stop, get_run_logger().info) as runner:
            outcomes = runner.outcomes
            at_a_time = place.max_parallel or stages_at_a_time()
            progress = Progress(plan, to_do, at_a_time, bool(record.run_id))
            _run_stages(plan, runner, progress, unchanged)
        states = {name: outcome.state for name, outcome in outcomes.items()}
        end = how_it_ended((stage.name for stage in plan.stages), states, stop.is_set())
    finally:
        table = rows(root, plan, outcomes, record.stage_runs())
        noted = {str(row["stage"]): str(row["state"]) for row in table}
        write_states(root, noted)
        is_reported = has_report(plan, noted)
        errors = {o.stage: redacted(o.message) for o in outcomes.values() if o.state == "failed"}
        report = root / REPORT.parent if is_reported else None
        record.close(table, end, report, errors, {"Prefect": flow_run_page()})

    def tell() -> State[Any]:
        if not idle:
            figures = results(root) if is_reported else {}
            links = {"MLflow": record.page, "Prefect": flow_run_page()}
            notify(message(me.name, end, table, errors, figures, links))
        # Last, since Prefect may be away.
        publish(root, table, record.report_page if is_reported else None, is_reported)
        return final_state(end, [*errors.values()], idle=idle)

    return tell


def final_state(end: str, errors: Sequence[str], what: str = "stages", idle: bool = False) -> State[Any]:
    """Return the state of a flow over ``what``, which Prefect and the command tell."""
    if end == "cancelled":
        return Cancelled(message="stopped; what was finished is kept, start it again to go on")
    if end == "failed":
        text = "\n\n".join(errors) or f"not all {what} were started; Prefect's messages above say why"
        return Failed(message=text, data=StageError(text))
    return Completed(name="Cached" if idle else "Completed", message="nothing to do" if idle else None)


def _run_stages(plan: Plan, runner: Runner, progress: Progress, unchanged: frozenset[str]) -> None:
    with prefect_says_it_once():
        _submit_and_wait(plan, runner, progress, unchanged)
    not_started = sum(stage.name not in runner.outcomes for stage in plan.stages)
    failed = [o for o in runner.outcomes.values() if o.state == "failed"]
    if not_started and failed:
        reasons = "; ".join(f"{o.stage} failed: {first_line(redacted(o.message))}" for o in failed)
        get_run_logger().warning("%d stages not started: %s", not_started, reasons)


def _submit_and_wait(plan: Plan, runner: Runner, progress: Progress, unchanged: frozenset[str]) -> None:
    stages = {stage.name: stage for stage in plan.stages}
    futures: dict[str, PrefectFuture[Any]] = {}
    for stage in plan.stages:
        named = stage_task.with_options(name=stage.name, task_run_name=stage.name, tags=list(stage.meta.tags))
        above = [stages[name] for name in stage.upstream if name in futures]
        may_fail = [upper for upper in above if upper.meta.may_fail]
        waits: list[Any] = [
            allow_failure(futures[upper.name]) if upper.meta.may_fail else futures[upper.name]
            for upper in above
        ]
        futures[stage.name] = named.submit(
            stage,
            runner,
            progress,
            stage.name in unchanged,
            may_fail,
            plan.not_run.get(stage.name),
            wait_for=waits,
            return_state=False,
        )
    wait_for_all(futures.values())


def wait_for_all(futures: Iterable[PrefectFuture[Any]]) -> None:
    """Wait until all are done, looking up now and then: who waits without end may sleep through signals."""
    unfinished = set(futures)
    while unfinished:
        unfinished = wait(list(unfinished), timeout=0.5).not_done
