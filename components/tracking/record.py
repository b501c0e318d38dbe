"""One MLflow run that never raises: a server that breaks is warned about once and the work goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.logs import own_logger
from components.core.paths import PARAMS
from components.core.redaction import redacted, redacted_values
from components.tracking.datasets import UsedDataset, hand_up_datasets, log_datasets
from components.tracking.metric_sender import MetricSender, first_line, is_refused, warn_refused
from components.tracking.names import flatten, mlflow_name, mlflow_names
from components.tracking.registry import Contender, register_if_best
from components.tracking.store import Store

if TYPE_CHECKING:
    import numpy as np
    from mlflow.entities import Param
    from numpy.typing import NDArray
    from torch import Tensor, nn

_logger = own_logger(__name__)

_PARAMS_A_CALL = 100  # MLflow's limit
_LONGEST_VALUE = 5000  # characters, of a tag or a parameter


def create_run(store: Store, tags: Mapping[str, str], parent_run_id: str | None = None) -> str:
    """A new run below ``parent_run_id``; returns its id, or raises whatever MLflow raises."""
    names = mlflow_names(tags)
    tags = {names[key]: redacted(value)[:_LONGEST_VALUE] for key, value in tags.items()}
    if parent_run_id:
        tags["mlflow.parentRunId"] = parent_run_id
    run = store.client.create_run(store.experiment_id, tags=tags, run_name=tags.get("mlflow.runName"))
    return str(run.info.run_id)


def log_params(store: Store, run_id: str, sections: Mapping[str, Any]) -> None:
    """Log nested parameters as ``section.key``, and name those that MLflow refuses.

    Raises whatever else MLflow raises.
    """
    from mlflow.entities import Param

    values = dict(flatten(redacted_values(sections)))
    names = mlflow_names(values)
    params = [Param(names[key], str(value)[:_LONGEST_VALUE]) for key, value in values.items()]
    refused: dict[str, str] = {}
    for start in range(0, len(params), _PARAMS_A_CALL):
        batch = params[start : start + _PARAMS_A_CALL]
        try:
            store.client.log_batch(run_id, params=batch)
        except Exception as error:
            if not is_refused(error):
                raise
            refused |= _log_singly(store, run_id, batch)
    warn_refused("parameters", refused, f"They are in {PARAMS}.")


def _log_singly(store: Store, run_id: str, params: Sequence[Param]) -> dict[str, str]:
    """Why each parameter that was refused was, by its name."""
    refused: dict[str, str] = {}
    for param in params:
        try:
            store.client.log_batch(run_id, params=[param])
        except Exception as error:
            if not is_refused(error):
                raise
            refused[param.key] = first_line(error)
    return refused


class Record:
    """The MLflow side of a run that is open. No method raises.

    Args:
        store: where the run is.
        run_id: of the run.
        kept_in: folder named in the warning as the place of the figures when MLflow is away.
        system_metrics: also sample the load of the machine.
        parent_to_end: a run above this one that has its status whenever this one has ended.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        kept_in: Path,
        system_metrics: bool = True,
        parent_to_end: str | None = None,
    ) -> None:
        self._store = store
        self._client = store.client
        self.run_id = run_id
        self._parent_to_end = parent_to_end
        self._kept = f"The work goes on; its figures are in {kept_in}."
        self._warned = False
        self._sender = MetricSender(self._client, self.run_id, self._kept, system_metrics)

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._sender.add(metrics, step)

    def params(self, sections: Mapping[str, Any]) -> None:
        with self._guarded("parameters"):
            log_params(self._store, self.run_id, sections)

    def tag(self, key: str, value: Any) -> None:
        with self._guarded(f"tag {key}"):
            self._client.set_tag(self.run_id, mlflow_name(key), redacted(str(value))[:_LONGEST_VALUE])

    def describe(self, title: str, artifact: str, text: str = "") -> None:
        """Let the run's description be a link to one of its artifacts, and Markdown below it.

        Both pages are MLflow's own.
        """
        page = f"#/experiments/{self._store.experiment_id}/runs/{self.run_id}/artifacts/{artifact}"
        self.tag("mlflow.note.content", f"[{title}]({page})" + (f"\n\n{text}" if text else ""))

    def datasets(self, datasets: Iterable[UsedDataset]) -> None:
        with self._guarded("datasets"):
            log_datasets(self._store, self.run_id, datasets)

    def hand_up_datasets(self, below: Iterable[str]) -> None:
        with self._guarded("datasets"):
            hand_up_datasets(self._store, self.run_id, below)

    def text(self, text: str, name: str) -> None:
        with self._guarded(name):
            self._client.log_text(self.run_id, redacted(text), name)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        with self._guarded(str(path)):
            log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            log(self.run_id, str(path), folder)

    def model(self, name: str, module: nn.Module, example: Tensor | Sequence[Tensor]) -> None:
        """A model that cannot be logged is always said: here, and as the run's tag ``model NAME``."""
        from components.tracking.model import log_model

        try:
            log_model(self.run_id, name, module, example)
        except Exception as error:
            reason = _reason(error)
            _logger.warning("MLflow has no model %s of this run: it cannot be logged (%s).", name, reason)
            self.tag(f"model {name}", f"not logged: {reason}")

    def image(self, key: str, draw: Callable[[], NDArray[np.uint8]], step: int) -> None:
        with self._guarded(f"image {key}"):
            self._client.log_image(self.run_id, draw(), key=key, step=step)

    def register(self, contender: Contender) -> None:
        with self._guarded(f"registered model {contender.name}"):
            self.tag("registered", register_if_best(self._store, contender))

    def close(self, status: str) -> None:
        """Send what waits and end the run; ``status`` is FINISHED, FAILED or KILLED."""
        unsent = self._sender.close()
        if unsent:
            _logger.warning("%d metrics were never sent to MLflow. %s", unsent, self._kept)
        with self._guarded("end of the run"):
            self._client.set_terminated(self.run_id, status)
            if self._parent_to_end:
                self._client.set_terminated(self._parent_to_end, status)

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if self._warned:
                _logger.debug("MLflow did not take %s", what, exc_info=True)
                return
            self._warned = True
            _logger.warning("MLflow did not take %s (%s). %s", what, _reason(error), self._kept)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"
