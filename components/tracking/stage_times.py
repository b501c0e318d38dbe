"""When and how long each stage ran that made the outputs as they are now, from its MLflow run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.files import read_json
from components.core.logs import own_logger
from components.core.paths import MLFLOW_RUN_FILE
from components.tracking.store import Store, open_store, run_page

if TYPE_CHECKING:
    from mlflow.entities import Run

_logger = own_logger(__name__)


@dataclass(frozen=True, slots=True)
class StageTime:
    """One stage's last real run.

    Attributes:
        stage: as DVC names it, ``voc07@random``.
        run_id: in MLflow.
        started: UTC, ISO 8601 to the second.
        seconds: wall-clock time of the stage's process from its record's opening to its end.
        tags: commit, host and versions, as ``provenance`` names them.
        link: page of the run, None where MLflow is a file of this machine.
    """

    stage: str
    run_id: str
    started: str
    seconds: float
    tags: dict[str, str]
    link: str | None


def stage_times(outputs_dir: Path) -> list[StageTime]:
    """Return the times of the run files below ``outputs_dir``, in order of their starts.

    Empty, with a warning, when the tracking store is out of reach. Runs that it does not know, or that have
    not ended, are left out.
    """
    try:
        store = open_store()
    except Exception as error:
        _logger.warning("MLflow is out of reach (%s): no stage times", type(error).__name__)
        return []
    runs = [run for run_id in set(_run_ids(outputs_dir)) if (run := _ended_run(store, run_id)) is not None]
    return [_time(store, run) for run in sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))]


def _run_ids(outputs_dir: Path) -> Iterator[str]:
    folders = ("*", "*/*", "benchmarks/*/*")
    for path in (path for folder in folders for path in outputs_dir.glob(f"{folder}/{MLFLOW_RUN_FILE}")):
        try:
            run_id = read_json(path).get("run_id")
        except (OSError, ValueError, AttributeError):
            continue
        if run_id:
            yield str(run_id)


def _ended_run(store: Store, run_id: str) -> Run | None:
    try:
        run = store.client.get_run(run_id)
    except Exception:  # made in another store
        return None
    return run if run.info.start_time and run.info.end_time else None


def _time(store: Store, run: Run) -> StageTime:
    tags = {key: str(value) for key, value in run.data.tags.items()}
    started = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    return StageTime(
        stage=tags.get("dvc.stage") or run.info.run_name or run.info.run_id,
        run_id=run.info.run_id,
        started=started.isoformat(timespec="seconds"),
        seconds=round((run.info.end_time - run.info.start_time) / 1000, 1),
        tags=tags,
        link=run_page(store, run.info.run_id),
    )
