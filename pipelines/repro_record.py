"""Completes the MLflow record of a ``dvc repro`` once DVC has ended; see components.tracking.parents.

Started by the first stage: ``python -m pipelines.repro_record RUN_ID DVC_PROCESS``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.paths import MLFLOW_RUN_FILE
from components.core.process import is_alive

if TYPE_CHECKING:
    from mlflow.entities import Run

    from pipelines.stage import Outcome

_POLL_SECONDS = 0.5
_CHILD_STATES = {"FINISHED": "ran", "FAILED": "failed"}


def main(run_id: str, dvc_process: str) -> None:
    """Wait for DVC's end, and close the run."""
    started = float(dvc_process.partition(" ")[2])
    while is_alive(dvc_process):
        time.sleep(_POLL_SECONDS)
    complete_record(Path.cwd(), run_id, started)


def complete_record(root: Path, run_id: str, started: float) -> None:
    """Store what the flow's record would have, from dvc.lock, the stages' runs and their run files.

    Args:
        root: the repository.
        run_id: the parent run, which may be open.
        started: when DVC started; seconds since the epoch.
    """
    from components.tracking.run import Record
    from components.tracking.store import open_store
    from pipelines.graph import Plan, Stage
    from pipelines.outcomes import GOOD_STATES, REPORT, rows
    from pipelines.record import PipelineRecord

    store = open_store()
    record = PipelineRecord(root, store, Record(store, run_id, root / "outputs", system_metrics=False))
    children = record.stage_runs()
    outs = _locked_outs(root)
    stages = tuple(Stage(name, (), outs.get(name, ())) for name in dict.fromkeys([*outs, *children]))
    runs = {name: store.client.get_run(child) for name, child in children.items()}
    outcomes = {
        stage.name: _ran(stage.name, runs[stage.name])
        if stage.name in runs
        else _untouched(root, stage, started)
        for stage in stages
    }
    table = rows(root, Plan(stages, frozenset()), outcomes, children)
    states = {outcome.state for outcome in outcomes.values()}
    end = "failed" if "failed" in states else "completed" if states <= set(GOOD_STATES) else "cancelled"
    is_reported = any(
        str(REPORT) in stage.outs and outcomes[stage.name].state in ("ran", "restored") for stage in stages
    )  # an untouched one may be that of an earlier run, since DVC was asked for some stages only
    record.close(table, end, root / REPORT.parent if is_reported and end == "completed" else None)


def _locked_outs(root: Path) -> dict[str, tuple[str, ...]]:
    """Outputs by stage, of the stages that DVC has a record of."""
    from components.params.reading import load_yaml

    if not (root / "dvc.lock").is_file():
        return {}
    locked: Mapping[str, Any] = load_yaml(root / "dvc.lock").get("stages") or {}
    return {name: tuple(out["path"] for out in entry.get("outs", ())) for name, entry in locked.items()}


def _ran(name: str, run: Run) -> Outcome:
    from pipelines.stage import Outcome

    seconds = ((run.info.end_time or run.info.start_time) - run.info.start_time) / 1000
    return Outcome(name, _CHILD_STATES.get(run.info.status, "stopped"), seconds)


def _untouched(root: Path, stage: Any, started: float) -> Outcome:
    """Restored, if the run file was put there since DVC started (linking changes its inode's time too)."""
    from pipelines.stage import Outcome

    for out in stage.outs:
        path = root / out
        if path.name == MLFLOW_RUN_FILE and path.exists():
            return Outcome(stage.name, "restored" if path.lstat().st_ctime >= started else "unchanged")
    return Outcome(stage.name, "unchanged")


if __name__ == "__main__":
    main(*sys.argv[1:])
