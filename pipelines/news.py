"""What Prefect hears of a stage while it is at work: how far pretraining is, failures, a new best backbone.

Prefect's server may be silent: nothing here makes a stage wait for it.
"""

import contextvars
import re
import threading
from types import TracebackType
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.events import emit_event

from components.core.logs import own_logger
from pipelines.graph import Stage, base_name
from pipelines.stage import Log

FAILED, BEST = "virtex.stage.failed", "virtex.backbone.best"  # events, for automations
_PROGRESS = re.compile(r"iteration (\d+)/(\d+) \(\d+%\), (.*)")  # components.training.metrics.Progress
_BEST = re.compile(r"backbone: version (\d+) of (\S+), the best so far")  # components.tracking.run
_PATIENCE_SECONDS = 5.0

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
