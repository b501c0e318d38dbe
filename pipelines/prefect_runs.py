"""Reports of a run to Prefect, and the requests to it that somebody makes there.

Reported are the progress of pretraining, a failure, a new best backbone, the table of the stages and the
report, and the end of a run that crashed. Prefect's server may be silent: nothing here makes a stage wait for
it.
"""

import contextlib
import contextvars
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, cast
from uuid import UUID

from prefect import runtime
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.events import emit_event
from prefect.states import Crashed
from prefect.utilities.urls import url_for

from components.core.errors import InputError
from components.core.logs import own_logger
from components.core.redaction import redacted
from components.tracking.pipeline_run import REPORT, Row, as_markdown
from pipelines.graph import Stage, base_name
from pipelines.notifications import message, notify
from pipelines.preparation import CRASHED_FLOW_RUN, clear_up
from pipelines.record import page_line
from pipelines.servers import has_lasting_server
from pipelines.stage import Log
from pipelines.workspace import STATE_DIR, run_lock

FAILED, BEST = "virtex.stage.failed", "virtex.backbone.best"  # events, for automations
_PROGRESS = re.compile(r"iteration (\d+)/(\d+) \(\d+%\), (.*)")  # components.training.metrics.Progress
_BEST = re.compile(r"backbone: version (\d+) of (\S+), the best so far")  # components.tracking.run
_PATIENCE_SECONDS = 5.0

_CRASHED = "its process crashed"
_TELLING_SECONDS = 15.0
_SAID_ALREADY = ("Task run failed with state:", "Finished in state Failed(", "Finished in state NotReady(")

_logger = own_logger(__name__)


class StageNews:
    """Context of a stage at work, inside its Prefect task.

    Args:
        stage: the stage.
        log: called with each line of it.
    """

    def __init__(self, stage: Stage, log: Log) -> None:
        self._stage = stage
        self._log = log
        self._state: tuple[float, str] | None = None  # percent and figures
        self._changed, self._closed = threading.Event(), False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "StageNews":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._changed.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE_SECONDS)

    def line(self, text: str) -> None:
        """Log a line of the stage, and tell Prefect what it says."""
        self._log(text)
        if match := _PROGRESS.fullmatch(text):
            self._state = (
                100.0 * int(match[1]) / int(match[2]),
                f"iteration {match[1]} of {match[2]}, {match[3]}",
            )
            self._changed.set()
            if self._thread is None:
                inside = contextvars.copy_context()  # so that the artifact is this task run's
                self._thread = threading.Thread(target=inside.run, args=(self._publish,), daemon=True)
                self._thread.start()
        elif match := _BEST.fullmatch(text):
            version, model = match.groups()
            _emit(BEST, f"virtex.backbone.{model}", model, version=version, message=text)

    def failed(self, message: str) -> None:
        """Tell that the stage has failed, and why in a line."""
        _emit(FAILED, f"virtex.stage.{self._stage.name}", self._stage.name, message=message)

    def _publish(self) -> None:
        """Send the newest state whenever there is one, until closed."""
        artifact: UUID | None = None
        try:
            is_last = False
            while not is_last:
                self._changed.wait()
                self._changed.clear()
                is_last = self._closed
                assert self._state is not None
                percent, figures = self._state
                if artifact is None:
                    key = re.sub(r"[^a-z0-9]+", "-", base_name(self._stage.name).lower())
                    created = create_progress_artifact(percent, key=f"{key}-progress", description=figures)
                    artifact = cast(UUID, created)  # outside of async code
                else:
                    update_progress_artifact(artifact, percent, description=figures)
        except Exception as error:
            _logger.debug("Prefect takes no progress of %s (%s)", self._stage.name, error)


def _emit(event: str, resource: str, name: str, **payload: str) -> None:
    """Send an event; Prefect adds the run that it happened in."""
    emit_event(event, {"prefect.resource.id": resource, "prefect.resource.name": name}, payload=payload)


def cancelled_in_prefect() -> Any:
    """Return a question for ``stop_when``: has somebody cancelled this flow run in the UI or by the API?"""
    flow_run_id = runtime.flow_run.id

    def asked() -> bool:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(flow_run_id).state
        return state is not None and (state.is_cancelling() or state.is_cancelled())

    return asked


@contextlib.contextmanager
def prefect_says_it_once() -> Iterator[None]:
    """Let task runs log nothing within it of a failure that the flow logs, and nothing of those below it.

    Prefect logs a failure twice more, once with the traceback of no exception ("NoneType: None"), and each
    task below it as an error of its own.
    """
    logger = logging.getLogger("prefect.task_runs")
    logger.addFilter(_is_new)
    try:
        yield
    finally:
        logger.removeFilter(_is_new)


def _is_new(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_SAID_ALREADY)


def publish(root: Path, table: list[Row], report_page: str | None, is_reported: bool) -> None:
    """Show the table of the stages in Prefect and, if it is one of this run, the report."""
    create_table_artifact(table=[dict(row) for row in table], key="stages", description=as_markdown(table))
    if is_reported:
        line, text = page_line(root, report_page), redacted((root / REPORT).read_text(encoding="utf-8"))
        create_markdown_artifact(f"{line}\n\n{text}", key="report", description=f"Results. {line}")
        if report_page:
            create_link_artifact(report_page, "The report as one page", key="report-page")


def flow_run_page() -> str | None:
    """Return the address of this flow run's page; None with a temporary server, whose page ends with it."""
    if not has_lasting_server():
        return None
    return url_for("flow-run", obj_id=str(runtime.flow_run.id))


def mark_crashed(root: Path) -> None:
    """Tell Prefect that the flow run of a crashed run is over, unless it knows; a silent server is left."""
    if (root / CRASHED_FLOW_RUN).is_file():
        thread = threading.Thread(target=_mark_crashed, args=(root / CRASHED_FLOW_RUN,), daemon=True)
        thread.start()
        thread.join(_TELLING_SECONDS)


def _mark_crashed(path: Path) -> None:
    with contextlib.suppress(Exception), get_client(sync_client=True) as client:  # another server, perhaps
        flow_run = client.read_flow_run(UUID(path.read_text(encoding="utf-8")))
        if flow_run.state is None or not flow_run.state.is_final():
            client.set_flow_run_state(flow_run.id, Crashed(message=_CRASHED), force=True)
        _end_task_runs(client, flow_run.id)
    path.unlink(missing_ok=True)


def clear_up_after(flow: Any, flow_run: Any, state: Any) -> None:
    """Clear up as Prefect's hook, in the process that serves the flow, once the flow's own process is gone.

    Prefect kills a flow 30 seconds after its cancellation, while stages may need longer to end.
    """
    root = Path.cwd()
    if not (root / STATE_DIR).is_dir():
        return
    with contextlib.suppress(InputError), run_lock(root):  # another run has begun, and cleared up itself
        notices = clear_up(root)
        if not notices:
            return
        for notice in notices:
            _logger.info(notice)
        name = flow_run.name
        with contextlib.suppress(Exception), get_client(sync_client=True) as client:
            name = client.read_flow_run(flow_run.id).name  # as the flow has renamed it
            _end_task_runs(client, flow_run.id)
        end = "cancelled" if state.is_cancelling() else "failed"
        notify(message(name, end, errors={"run": f"{_CRASHED}; {state.message}"}))


def _end_task_runs(client: Any, flow_run_id: UUID) -> None:
    only_these = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    for task_run in client.read_task_runs(flow_run_filter=only_these):
        if task_run.state is None or not task_run.state.is_final():
            client.set_task_run_state(task_run.id, Crashed(message=_CRASHED), force=True)
