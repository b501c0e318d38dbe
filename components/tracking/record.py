"""One MLflow run that never raises: a server that breaks is warned about once and the work goes on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.tracking.metric_sender import MetricSender
from components.tracking.names import flatten, mlflow_name
from components.tracking.store import Store

if TYPE_CHECKING:
    from torch import Tensor, nn

_logger = logging.getLogger(__name__)

_PARAMS_A_CALL = 100  # MLflow's limit
_LONGEST_VALUE = 5000  # characters, of a tag or a parameter


class Record:
    """The MLflow side of a stage's run.

    Args:
        store: where the run is created.
        tags: of the new run.
        parent_run_id: the pipeline's run, if there is one.
        kept_in: folder named in the warning as the place of the figures when MLflow is away.
        reopened: id of an open run to go on in; None creates one.

    Raises:
        Exception: whatever MLflow raises if the run cannot be created. No other method raises.
    """

    def __init__(
        self,
        store: Store,
        tags: Mapping[str, str],
        parent_run_id: str | None,
        kept_in: Path,
        reopened: str | None = None,
    ) -> None:
        self._client = store.client
        tags = {mlflow_name(key): value[:_LONGEST_VALUE] for key, value in tags.items()}
        if parent_run_id:
            tags["mlflow.parentRunId"] = parent_run_id
        if reopened is None:
            run = self._client.create_run(store.experiment_id, tags=tags, run_name=tags.get("mlflow.runName"))
            reopened = str(run.info.run_id)
        self.run_id = reopened
        self._experiment_id = store.experiment_id
        self._kept = f"The work goes on; its figures are in {kept_in}."
        self._warned = False
        self._sender = MetricSender(self._client, self.run_id, self._kept)

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._sender.add(metrics, step)

    def params(self, sections: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(mlflow_name(k), str(v)[:_LONGEST_VALUE]) for k, v in flatten(sections)]
        with self._guarded("parameters"):
            for start in range(0, len(params), _PARAMS_A_CALL):
                self._client.log_batch(self.run_id, params=params[start : start + _PARAMS_A_CALL])

    def tag(self, key: str, value: Any) -> None:
        with self._guarded(f"tag {key}"):
            self._client.set_tag(self.run_id, mlflow_name(key), str(value)[:_LONGEST_VALUE])

    def describe(self, title: str, artifact: str) -> None:
        """Let the run's description be a link to one of its artifacts; both pages are MLflow's own."""
        page = f"#/experiments/{self._experiment_id}/runs/{self.run_id}/artifacts/{artifact}"
        self.tag("mlflow.note.content", f"[{title}]({page})")

    def text(self, text: str, name: str) -> None:
        with self._guarded(name):
            self._client.log_text(self.run_id, text, name)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        with self._guarded(str(path)):
            log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            log(self.run_id, str(path), folder)

    def model(self, name: str, module: nn.Module, example: Tensor | Sequence[Tensor]) -> None:
        with self._guarded(f"model {name}"):
            from components.tracking.model import log_model

            log_model(self.run_id, name, module, example)

    def close(self, status: str) -> None:
        """Send what waits and end the run; ``status`` is FINISHED, FAILED or KILLED."""
        unsent = self._sender.close()
        if unsent:
            _logger.warning("%d metrics were never sent to MLflow. %s", unsent, self._kept)
        with self._guarded("end of the run"):
            self._client.set_terminated(self.run_id, status)

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if self._warned:
                _logger.debug("MLflow did not take %s", what, exc_info=True)
                return
            self._warned = True
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
            _logger.warning("MLflow did not take %s (%s). %s", what, reason, self._kept)
