"""An open MLflow run, and the handle of a stage.

A server that breaks is warned about once, and the work goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core import files, paths
from components.core.errors import InputError, first_line
from components.core.foreign_text import markdown_text, said
from components.core.logs import own_logger
from components.core.published import BENCHMARKS
from components.core.redaction import redacted_values
from components.params import PRETRAINED
from components.tracking.datasets import UsedDataset, inherit_datasets, log_datasets
from components.tracking.metrics import (
    MetricSender,
    flatten,
    is_refused,
    mlflow_name,
    mlflow_names,
    numbers,
    warn_refused,
)
from components.tracking.models import (
    ModelCandidate,
    log_model,
    log_model_elsewhere,
    log_scores,
    register_if_best,
)
from components.tracking.provenance import close_orphaned_runs, launch_tags, provenance, reopened_run
from components.tracking.store import (
    PARENT_RUN_VARIABLE,
    Store,
    open_store,
    page_link,
    prepare_environment,
    public_uri,
    tracking_uri,
)

if TYPE_CHECKING:
    import numpy as np
    from mlflow.entities import Param
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from components.tracking.repro import ReproRun

_logger = own_logger(__name__)

STAGE_TAG = "dvc.stage"
WAITED_TAG = "virtex.waited_seconds"  # of the process, for a lock, before it opened its run
_MAX_PARAMS = 100  # per call, MLflow's limit
_MAX_CHARACTERS = 5000  # of a tag or a parameter


def create_run(store: Store, tags: Mapping[str, str], parent_run_id: str | None = None) -> str:
    """Create a run below ``parent_run_id`` and return its id; raises whatever MLflow raises."""
    names = mlflow_names(tags)
    tags = {names[key]: said(value)[:_MAX_CHARACTERS] for key, value in tags.items()}
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
    params = [Param(names[key], said(str(value))[:_MAX_CHARACTERS]) for key, value in values.items()]
    refused: dict[str, str] = {}
    for start in range(0, len(params), _MAX_PARAMS):
        batch = params[start : start + _MAX_PARAMS]
        if _is_refused(store, run_id, batch):
            reasons = {param.key: _is_refused(store, run_id, [param]) for param in batch}
            refused |= {key: reason for key, reason in reasons.items() if reason}
    warn_refused("parameters", refused, f"They are in {paths.PARAMS}.")


def _is_refused(store: Store, run_id: str, params: Sequence[Param]) -> str:
    """Log the parameters; return why they were refused, empty if they were not."""
    try:
        store.client.log_batch(run_id, params=params)
    except Exception as error:
        if not is_refused(error):
            raise
        return first_line(error) or type(error).__name__
    return ""


class Record:
    """The MLflow side of a run that is open. No method raises; without a store none does anything.

    Args:
        store: where the run is.
        run_id: of the run.
        kept_in: folder named in the warning as the place of the figures when MLflow is away.
        system_metrics: also sample the load of the machine.

    Attributes:
        run_id: None when the tracking server was away at the start.
    """

    def __init__(
        self, store: Store | None, run_id: str | None, kept_in: Path, system_metrics: bool = True
    ) -> None:
        self.run_id = run_id
        self._store = store
        self._kept = f"The work goes on; its figures are in {kept_in}."
        self._has_warned = False
        self._sender = (
            MetricSender(store.client, run_id, self._kept, system_metrics) if store and run_id else None
        )

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Queue metrics of iteration ``step``; returns at once, a background thread sends them in batches."""
        if self._sender:
            self._sender.add(metrics, step)

    def params(self, sections: Mapping[str, Any]) -> None:
        """Log nested parameters as ``section.key``."""
        self._try("parameters", lambda store, run_id: log_params(store, run_id, sections))

    def tag(self, key: str, value: Any) -> None:
        """Set a tag of the run."""
        text = said(str(value))[:_MAX_CHARACTERS]
        self._try(f"tag {key}", lambda store, run_id: store.client.set_tag(run_id, mlflow_name(key), text))

    def describe(self, outcome: str, title: str, artifact: str, text: str = "") -> None:
        """Let the run's description be its outcome, then a link to an artifact, then the Markdown ``text``.

        Both pages are MLflow's own.
        """
        if self._store:
            page = page_link(self._store.experiment_id, f"runs/{self.run_id}/artifacts/{artifact}")
            self.tag("mlflow.note.content", f"{markdown_text(outcome)}\n\n[{title}]({page}){text}")

    def uses(self, *datasets: UsedDataset) -> None:
        """Note datasets that the run reads."""
        self._try("datasets", lambda store, run_id: log_datasets(store, run_id, datasets))

    def inherit_datasets(self, below: Iterable[str]) -> None:
        """Note the datasets of the runs ``below``."""
        self._try("datasets", lambda store, run_id: inherit_datasets(store, run_id, below))

    def text(self, text: str, name: str) -> None:
        """Store ``text`` as the artifact ``name``."""
        self._try(name, lambda store, run_id: store.client.log_text(run_id, said(text), name))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Copy a file, or what is in a folder, to the run, under ``folder`` there."""

        def send(store: Store, run_id: str) -> None:
            log = store.client.log_artifacts if path.is_dir() else store.client.log_artifact
            log(run_id, str(path), folder)

        self._try(str(path), send)

    def image(self, key: str, draw: Callable[[], NDArray[np.uint8]], step: int) -> None:
        """Log the picture (height, width, 3) that ``draw`` returns; those of a ``key`` get a slider of steps.

        Without a run nothing is drawn, and a drawing that fails is a warning.
        """
        self._try(
            f"image {key}", lambda store, run_id: store.client.log_image(run_id, draw(), key=key, step=step)
        )

    def model(
        self, name: str, module: nn.Module, example: Tensor | Sequence[Tensor], weights: Path | None = None
    ) -> None:
        """Log ``module`` as an MLflow model (torch.export's format).

        ``example`` holds the positional inputs of its forward, batch 2 or more; a file with its ``weights``
        lets benchmarks of that file add their figures to it. A module that cannot be exported is always
        named: in a warning, and in the run's tag ``model NAME``.
        """
        if not self.run_id:
            return
        try:
            log_model(self.run_id, name, module, example, weights)
        except Exception as error:
            reason = _reason(error)
            _logger.warning("MLflow has no model %s of this run: it cannot be logged (%s).", name, reason)
            self.tag(f"model {name}", f"not logged: {reason}")

    def model_elsewhere(
        self, name: str, weights: Path, scores: Mapping[str, float] | None = None, step: int | None = None
    ) -> None:
        """Log a model that is a file of DVC's, so that benchmarks of that file add their figures to it.

        What is known of it already, the ``scores`` of iteration ``step``, are figures of this run too.
        """
        self._try(
            f"model {name}",
            lambda store, run_id: log_model_elsewhere(store, run_id, name, weights, scores, step),
        )

    def register(self, candidate: ModelCandidate) -> None:
        """Register a logged model, if it beats the best one; tell what was done, also by a tag.

        `pipelines.prefect_runs` reads the line.
        """

        def send(store: Store, run_id: str) -> None:
            done = register_if_best(store, candidate)
            print(f"{candidate.logged_as}: {done}", flush=True)
            self.tag("registered", done)

        self._try(f"registered model {candidate.name}", send)

    def close(self, status: str) -> None:
        """Send what waits and end the run; ``status`` is FINISHED, FAILED or KILLED."""
        unsent = self._sender.close() if self._sender else 0
        if unsent:
            _logger.warning("%d metrics were never sent to MLflow. %s", unsent, self._kept)
        self._try("end of the run", lambda store, run_id: store.client.set_terminated(run_id, status))

    def _try(self, what: str, send: Callable[[Store, str], object]) -> None:
        if self._store is None or self.run_id is None:
            return
        try:
            send(self._store, self.run_id)
        except Exception as error:
            if self._has_warned:
                _logger.debug("MLflow did not take %s", what, exc_info=True)
                return
            self._has_warned = True
            _logger.warning("MLflow did not take %s (%s). %s", what, _reason(error), self._kept)


class StageRun(Record):
    """One execution of one stage. Only ``metrics`` can raise, and only for the stage's own file.

    Attributes:
        stage: name without the item.
        item: of a matrix stage (``train`` of ``lmdb@train``), else None.
        output_dir: folder of the stage's own outputs; exists.
    """

    def __init__(
        self,
        stage: str,
        item: str | None,
        output_dir: Path,
        store: Store | None = None,
        run_id: str | None = None,
        repro: ReproRun | None = None,
        about: str = "",
    ) -> None:
        super().__init__(store, run_id, output_dir)
        self._repro = repro
        self._about = about
        self._measured_on: UsedDataset | None = None
        self.stage = stage
        self.item = item
        self.output_dir = output_dir

    def close(self, status: str) -> None:
        """End the run, and bring that of the ``dvc repro`` above it up to date."""
        super().close(status)
        if self._repro:
            self._repro.update()

    def metrics(self, summary: Mapping[str, Any]) -> None:
        """Write the final figures to ``metrics.json`` and log their numeric leaves as ``group.name``.

        The group ``protocol`` is not logged: its settings are parameters of the run, its version is a tag.

        Raises:
            ValueError: if a figure is NaN or infinite.
        """
        files.write_json(self.output_dir / "metrics.json", summary)
        figures = numbers({name: value for name, value in summary.items() if name != "protocol"})
        self.log(figures)
        name, backbone = paths.benchmark_of(self.stage, self.item)
        protocol = summary.get("protocol") or {}
        version = protocol.get("version", 1)
        if protocol:
            self.tag("protocol", f"{protocol['name']}, version {version}")
        other = "" if version == 1 else f" v{version}"  # a column of its own where MLflow compares models
        headlines = {
            row.key + other: figures[row.metric]
            for row in BENCHMARKS
            if row.name == name and row.is_headline and row.metric in figures
        }
        weights = paths.backbone_path(backbone or PRETRAINED)
        if headlines and weights.is_file():
            data = self._measured_on
            self._try("figures", lambda store, run_id: log_scores(store, run_id, weights, headlines, data))
            self.note(", ".join(f"{title} {value:.2f}" for title, value in headlines.items()))

    def uses(self, *datasets: UsedDataset) -> None:
        """Note datasets that the run reads; figures are those of the last one that is not trained on."""
        super().uses(*datasets)
        tests = [data for data in datasets if data.context != "training"]
        self._measured_on = tests[-1] if tests else self._measured_on

    def note(self, outcome: str) -> None:
        """Let the run's description be its outcome, and what the stage does."""
        self.tag("mlflow.note.content", "\n\n".join(filter(None, [markdown_text(outcome), self._about])))


@contextmanager
def stage_run(
    stage: str, item: str | None, params: Mapping[str, Any], waited_seconds: float = 0.0, about: str = ""
) -> Iterator[StageRun]:
    """Open the run of a stage, below ``VIRTEX_PARENT_RUN_ID`` if that is set, and end it with its status.

    Args:
        stage: name as in dvc.yaml, without the item.
        item: of a matrix stage.
        params: the stage's sections by name (mappings or pydantic models), logged as ``section.key``.
        waited_seconds: of this process before the stage could start, which are no work.
        about: what the stage does, for the run's description.
    """
    output_dir = paths.stage_dir(stage, item)
    output_dir.mkdir(parents=True, exist_ok=True)
    run = _open(stage, item, output_dir, waited_seconds, about)
    status = "FINISHED"
    try:
        _write_run_file(output_dir, run.run_id)
        run.params(params)
        yield run
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    except BaseException as error:
        if not (isinstance(error, SystemExit) and not error.code):
            status = "FAILED"
            run.tag("error", f"{type(error).__name__}: {error}")
            run.note(f"Failed: {first_line(error)}")
        raise
    finally:
        run.close(status)


def _open(stage: str, item: str | None, output_dir: Path, waited_seconds: float, about: str) -> StageRun:
    prepare_environment()
    address = f"{stage}@{item}" if item else stage
    try:
        from components.tracking.repro import parent_of_repro

        store = open_store()
        reopened = reopened_run(store, STAGE_TAG, address)
        close_orphaned_runs(store, STAGE_TAG, address)
        parent = os.environ.get(PARENT_RUN_VARIABLE)
        repro = parent_of_repro(store) if parent is None else None
        tags = provenance(address.replace("@", "/"), f"components.stages.{stage}") | {STAGE_TAG: address}
        tags |= launch_tags() | ({"item": item} if item else {})
        if waited_seconds:
            tags[WAITED_TAG] = f"{waited_seconds:.3f}"
        tags |= {"mlflow.note.content": about} if about else {}
        run_id = reopened or create_run(store, tags, repro.run_id if repro else parent)
        return StageRun(stage, item, output_dir, store, run_id, repro, about)
    except Exception as error:
        _logger.warning(
            "No MLflow run for %s, the tracking store is out of reach (%s). The work goes on; "
            "its figures are in %s.",
            address,
            _reason(error),
            output_dir,
        )
        return StageRun(stage, item, output_dir)


def _write_run_file(output_dir: Path, run_id: str | None) -> None:
    """Write the run's id, an output of the stage: one that DVC skips still points at the run that made it."""
    content: dict[str, str | None] = {"run_id": run_id}
    uri = public_uri(tracking_uri())
    if uri:
        content["tracking_uri"] = uri
    files.write_json(output_dir / paths.MLFLOW_RUN_FILE, content)


def _reason(error: Exception) -> str:
    said = first_line(error)
    return said if isinstance(error, InputError) else f"{type(error).__name__}: {said}"
