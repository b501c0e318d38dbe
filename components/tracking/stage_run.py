"""The handle that a stage holds: its item, its output folder, and its MLflow run if there is one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core import files as atomic
from components.core import paths
from components.core.logs import own_logger
from components.tracking.datasets import UsedDataset
from components.tracking.names import numbers
from components.tracking.registry import Contender
from components.tracking.store import (
    PARENT_RUN_VARIABLE,
    open_store,
    prepare_environment,
    public_uri,
    tracking_uri,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from components.tracking.record import Record

_logger = own_logger(__name__)

STAGE_TAG = "dvc.stage"
WAITED_TAG = "virtex.waited_seconds"  # of the process, for a lock, before it opened its run


class StageRun:
    """One execution of one stage. Only ``metrics`` can raise, and only for the stage's own file.

    Attributes:
        stage: name without the item.
        item: of a matrix stage (``train`` of ``lmdb@train``), else None.
        output_dir: folder of the stage's own outputs; exists.
        run_id: of the MLflow run; None when the tracking server was away at the start.
    """

    def __init__(self, stage: str, item: str | None, output_dir: Path, record: Record | None) -> None:
        self.stage = stage
        self.item = item
        self.output_dir = output_dir
        self._record = record
        self.run_id = record.run_id if record else None

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Queue metrics of iteration ``step``; returns at once, a background thread sends them in batches."""
        if self._record:
            self._record.log(metrics, step)

    def metrics(self, summary: Mapping[str, Any]) -> None:
        """Write the final figures to ``metrics.json`` and log their numeric leaves as ``group.name``.

        Raises:
            ValueError: if a figure is NaN or infinite.
        """
        atomic.write_json(self.output_dir / "metrics.json", summary)
        self.log(numbers(summary))

    def uses(self, *datasets: UsedDataset) -> None:
        """Note the datasets that the stage reads."""
        if self._record:
            self._record.datasets(datasets)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Copy a file, or what is in a folder, to the run, under ``folder`` there."""
        if self._record:
            self._record.artifact(Path(path), folder)

    def describe(self, title: str, artifact: str) -> None:
        """Let the run's description be a link to one of its artifacts."""
        if self._record:
            self._record.describe(title, artifact)

    def text(self, text: str, name: str) -> None:
        """Store ``text`` as the artifact ``name``."""
        if self._record:
            self._record.text(text, name)

    def tag(self, key: str, value: Any) -> None:
        """Set a tag of the run."""
        if self._record:
            self._record.tag(key, value)

    def image(self, key: str, draw: Callable[[], NDArray[np.uint8]], step: int) -> None:
        """Log the picture (height, width, 3) that ``draw`` gives; those of a ``key`` get a slider of steps.

        Without a run nothing is drawn, and a drawing that fails is a warning.
        """
        if self._record:
            self._record.image(key, draw, step)

    def register(self, contender: Contender) -> None:
        """Register a logged model, if it beats the best one; what was done becomes the tag ``registered``."""
        if self._record:
            self._record.register(contender)

    def model(self, name: str, module: nn.Module, example: Tensor | Sequence[Tensor]) -> None:
        """Log ``module`` as an MLflow model (torch.export's format).

        ``example`` holds the positional inputs of its forward, batch 2 or more. A module that cannot
        be exported is a warning, never a failure.
        """
        if self._record:
            self._record.model(name, module, example)


@contextmanager
def stage_run(
    stage: str, item: str | None, params: Mapping[str, Any], waited_seconds: float = 0.0
) -> Iterator[StageRun]:
    """Open the run of a stage, below ``VIRTEX_PARENT_RUN_ID`` if that is set, and end it with its status.

    Args:
        stage: name as in dvc.yaml, without the item.
        item: of a matrix stage.
        params: the stage's sections by name (mappings or pydantic models), logged as ``section.key``.
        waited_seconds: of this process before the stage could start, which are no work.
    """
    output_dir = paths.stage_dir(stage, item)
    output_dir.mkdir(parents=True, exist_ok=True)
    record = _open_record(stage, item, output_dir, waited_seconds)
    status = "FINISHED"
    try:
        _write_run_file(output_dir, record)
        if record:
            record.params(params)
        yield StageRun(stage, item, output_dir, record)
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    except BaseException as error:
        if not (isinstance(error, SystemExit) and not error.code):
            status = "FAILED"
            if record:
                record.tag("error", f"{type(error).__name__}: {error}")
        raise
    finally:
        if record:
            record.close(status)


def _open_record(stage: str, item: str | None, output_dir: Path, waited_seconds: float) -> Record | None:
    prepare_environment()
    address = f"{stage}@{item}" if item else stage
    try:
        from components.tracking.dead_runs import close_dead_runs
        from components.tracking.provenance import provenance
        from components.tracking.record import Record, create_run
        from components.tracking.repro import parent_of_repro
        from components.tracking.restarts import launch_tags, reopened_run

        store = open_store()
        reopened = reopened_run(store, STAGE_TAG, address)
        close_dead_runs(store, STAGE_TAG, address)
        parent = os.environ.get(PARENT_RUN_VARIABLE)
        of_repro = parent_of_repro(store) if parent is None else None
        tags = provenance(address.replace("@", "/"), f"components.stages.{stage}") | {STAGE_TAG: address}
        tags |= launch_tags()
        if item:
            tags["item"] = item
        if waited_seconds:
            tags[WAITED_TAG] = f"{waited_seconds:.3f}"
        run_id = reopened or create_run(store, tags, parent or of_repro)
        return Record(store, run_id, output_dir, parent_to_end=of_repro)
    except Exception as error:
        first_line = (str(error).splitlines() or [""])[0]
        _logger.warning(
            "No MLflow run for %s, the tracking store is out of reach (%s: %s). The work goes on; "
            "its figures are in %s.",
            address,
            type(error).__name__,
            first_line[:300],
            output_dir,
        )
        return None


def _write_run_file(output_dir: Path, record: Record | None) -> None:
    """The run id is an output of the stage: one that DVC skips still points at the run that made it."""
    content: dict[str, str | None] = {"run_id": record.run_id if record else None}
    uri = public_uri(tracking_uri())
    if uri:
        content["tracking_uri"] = uri
    atomic.write_json(output_dir / paths.MLFLOW_RUN_FILE, content)
