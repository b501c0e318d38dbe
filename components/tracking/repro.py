"""The parent run of the stages that ``dvc repro`` starts without our flow.

DVC has no place for a first and a last word of ours. So whichever stage comes first opens the run, and each
stage at its end brings the run's table, files and status up to date, as the flow would. Two things come
later than a stage's end: its own entry in dvc.lock, and the end of a stage that was killed outright. Whoever
opens the next parent run puts them in (``complete_left_records``).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.logs import own_logger
from components.core.paths import MLFLOW_RUN_FILE, OUTPUTS_DIR
from components.core.process import is_alive, process_mark
from components.core.stage_lock import dvc_above
from components.params.yaml_files import load_yaml
from components.tracking.pipeline_run import (
    FLOW_TAG,
    GOOD_STATES,
    PRESET_TAG,
    REPORT,
    PipelineRecord,
    Row,
    all_params,
    create_flow_run,
    parameters_in_words,
    preset_in_force,
    run_name,
    table_row,
)
from components.tracking.provenance import HOST_TAG, PROCESS_TAG
from components.tracking.run import log_params

if TYPE_CHECKING:
    import psutil
    from mlflow.entities import Run

    from components.tracking.store import Store

REPRO_TAG = "virtex.repro"  # folder where DVC runs, until it has ended and the record has all that it left
COMPLETE = "complete"
_STAGE_VARIABLE = "DVC_STAGE"  # DVC sets it for each command
_EXPERIMENT_VARIABLE = "DVC_EXP_NAME"  # and this one within `dvc exp run`
_REPORT_STAGE = REPORT.parent.name
_CHILD_STATES = {"FINISHED": "ran", "FAILED": "failed"}

_logger = own_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReproRun:
    """The parent run of one ``dvc repro``.

    Attributes:
        store: where it is.
        run_id: of the run.
        started: when DVC started, in seconds since the epoch.
    """

    store: Store
    run_id: str
    started: float

    def update(self) -> bool:
        """Bring the record up to date with the stages that have ended; return False if that fails."""
        try:
            complete_record(Path.cwd(), self.store, self.run_id, self.started)
        except Exception as error:
            _logger.warning("MLflow's run of a `dvc repro` is incomplete (%s)", type(error).__name__)
            return False
        return True


def parent_of_repro(store: Store) -> ReproRun | None:
    """Return the run of the DVC process that started this one; None if there is no such process.

    Raises whatever MLflow raises.
    """
    if _STAGE_VARIABLE not in os.environ:
        return None
    dvc = dvc_above("dvc")
    if dvc is None:
        return None
    mark = process_mark(dvc.pid)
    found = _runs(store, f"and tags.`{PROCESS_TAG}` = '{mark}'")
    if found:
        run_id = str(found[0].info.run_id)
        store.client.update_run(run_id, status="RUNNING")
        return ReproRun(store, run_id, _started(mark))
    complete_left_records(store)
    experiment = os.environ.get(_EXPERIMENT_VARIABLE)
    known = parameters_in_words()
    tags = {PROCESS_TAG: mark, PRESET_TAG: preset_in_force(), REPRO_TAG: str(Path.cwd())}
    tags |= {"dvc.experiment": experiment} if experiment else {}
    name = run_name(f"{known}, {experiment}" if experiment else known)
    run_id = create_flow_run(store, name, "virtex", " ".join(["dvc", *_arguments(dvc)]), tags=tags)
    log_params(store, run_id, all_params())
    return ReproRun(store, run_id, _started(mark))


def complete_left_records(store: Store) -> None:
    """Complete the records of those ``dvc repro`` that have ended here, before DVC runs here again.

    Raises whatever MLflow raises.
    """
    for run in _runs(store, f"and tags.`{REPRO_TAG}` = '{Path.cwd()}'"):
        mark = run.data.tags.get(PROCESS_TAG, "")
        if not is_alive(mark) and ReproRun(store, run.info.run_id, _started(mark)).update():
            store.client.set_tag(run.info.run_id, REPRO_TAG, COMPLETE)


def complete_record(root: Path, store: Store, run_id: str, started: float) -> None:
    """Store what the flow's record would have, from dvc.lock, the stages' runs and their run files.

    Args:
        root: the repository.
        store: where the run is.
        run_id: the parent run, which may be open.
        started: when DVC started, in seconds since the epoch.
    """
    from components.tracking.run import Record

    record = PipelineRecord(root, store, Record(store, run_id, root / OUTPUTS_DIR, system_metrics=False))
    children, outs = record.stage_runs(), _locked_outs(root)
    table, errors = list[Row](), dict[str, str]()
    for stage in dict.fromkeys([*outs, *children]):
        own, child = outs.get(stage, ()), children.get(stage)
        made = store.client.get_run(child) if child else None
        state, seconds = _ran(made) if made else (_untouched(root, own, started), 0.0)
        if made and state == "failed":
            errors[stage] = made.data.tags.get("error", "")
        table.append(table_row(root, stage, own, state, seconds, child))
    states = {str(row["stage"]): row["state"] for row in table}
    values = set(states.values())
    end = "failed" if "failed" in values else "completed" if values <= set(GOOD_STATES) else "cancelled"
    # An untouched report may be that of an earlier run, since DVC was asked for some stages only.
    is_reported = end == "completed" and states.get(_REPORT_STAGE) in ("ran", "restored")
    record.close(table, end, root / REPORT.parent if is_reported else None, errors)


def _runs(store: Store, condition: str) -> list[Run]:
    """Return this machine's parent runs for which the condition holds, the newest first."""
    here = f"tags.`{FLOW_TAG}` = 'virtex' and tags.`{HOST_TAG}` = '{socket.gethostname()}' "
    return list(store.client.search_runs([store.experiment_id], filter_string=here + condition))


def _started(mark: str) -> float:
    start = mark.partition(" ")[2]
    return float(start) if start.isdecimal() else 0.0


def _locked_outs(root: Path) -> dict[str, tuple[str, ...]]:
    """Return the outputs of the stages that DVC has a record of."""
    if not (root / "dvc.lock").is_file():
        return {}
    locked: Mapping[str, Any] = load_yaml(root / "dvc.lock").get("stages") or {}
    return {name: tuple(out["path"] for out in entry.get("outs", ())) for name, entry in locked.items()}


def _ran(run: Run) -> tuple[str, float]:
    seconds = ((run.info.end_time or run.info.start_time) - run.info.start_time) / 1000
    return _CHILD_STATES.get(run.info.status, "stopped"), seconds


def _untouched(root: Path, outs: tuple[str, ...], started: float) -> str:
    """Return restored if the run file was put there since DVC started: linking changes its inode's time."""
    for path in (root / out for out in outs):
        if path.name == MLFLOW_RUN_FILE and path.exists():
            return "restored" if path.lstat().st_ctime >= started else "unchanged"
    return "unchanged"


def _arguments(dvc: psutil.Process) -> list[str]:
    """Return what the user asked of DVC: ``repro``, ``exp run -S ...``."""
    parts = dvc.cmdline()
    return parts[next(i for i, part in enumerate(parts) if Path(part).name == "dvc") + 1 :]
