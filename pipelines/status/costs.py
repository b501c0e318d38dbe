"""How long each stage took when it last ran, as MLflow remembers it.

MLflow's import takes as long as all the rest of `virtex status`, so a process of its own asks it meanwhile:
``python -m pipelines.status.costs``.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import InputError, first_line
from components.core.files import parse_json
from components.core.redaction import redacted, redacted_values
from components.tracking.metrics import flatten, mlflow_name
from components.tracking.provenance import HOST_TAG, PROCESS_TAG
from components.tracking.run import STAGE_TAG, WAITED_TAG
from components.tracking.store import experiment_name, prepare_environment, refusal_explained, tracking_uri

if TYPE_CHECKING:
    from mlflow.entities import Run

DEADLINE_SECONDS = 30.0
_NEWEST_RUNS = 500
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}  # seconds; times


@dataclass(frozen=True, slots=True)
class Cost:
    """Time of an earlier run of a stage that went through, from the start of its process.

    Attributes:
        seconds: wall-clock time.
        same_params: whether it ran with the parameters that are now in force.
    """

    seconds: float
    same_params: bool


class CostsUnknown(Exception):
    """The record of earlier runs cannot be read; says why."""


class CostQuery:
    """A process that reads the record."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "pipelines.status.costs"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def costs(self, values: Mapping[str, Any]) -> dict[str, Cost]:
        """Return what ``chosen_costs`` makes of the answer.

        Raises:
            CostsUnknown: if the store does not answer.
        """
        try:
            output, _ = self._process.communicate(timeout=DEADLINE_SECONDS)
            answer = parse_json(output)
        except subprocess.TimeoutExpired:
            raise CostsUnknown(f"nothing after {DEADLINE_SECONDS:.0f} s") from None
        except ValueError:
            raise CostsUnknown(f"exit status {self._process.returncode}") from None
        if "error" in answer:
            raise CostsUnknown(answer["error"])
        return chosen_costs(answer["runs"], values)

    def close(self) -> None:
        """End the process if it is still at work."""
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def cost_query() -> Iterator[CostQuery]:
    """Start a query now, for who asks later or not at all."""
    query = CostQuery()
    try:
        yield query
    finally:
        query.close()


def chosen_costs(runs: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> dict[str, Cost]:
    """Return by stage the longest run with the parameters in force, else the newest; this machine's first.

    The longest, since one that went on from a checkpoint took less than the work takes.

    Args:
        runs: as ``finished_runs`` gives them.
        values: sections of the parameters in force, by name.
    """
    params = {mlflow_name(key): str(value) for key, value in flatten(redacted_values(values))}
    found: dict[str, tuple[tuple[bool, bool, float], Cost]] = {}
    for run in runs:
        stage, seconds = run["stage"], run["seconds"]
        same = all(params.get(key) == value for key, value in run["params"].items())
        rank = (same, run["host"] == socket.gethostname(), seconds if same else 0.0)
        if stage not in found or rank > found[stage][0]:
            found[stage] = rank, Cost(seconds, same)
    return {stage: cost for stage, (_, cost) in found.items()}


def finished_runs() -> list[dict[str, Any]]:
    """Return stage, host, seconds and parameters of runs that went through, the newest first.

    Creates nothing: without a store there are none. Raises whatever MLflow raises.
    """
    uri = tracking_uri()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        return []
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    with refusal_explained(uri):
        experiment = client.get_experiment_by_name(experiment_name())
    if experiment is None:
        return []
    filters = f"attributes.status = 'FINISHED' and tags.`{STAGE_TAG}` LIKE '%'"
    runs = client.search_runs(
        [experiment.experiment_id], filters, max_results=_NEWEST_RUNS, order_by=["start_time DESC"]
    )
    return [
        {
            "stage": run.data.tags[STAGE_TAG],
            "host": run.data.tags.get(HOST_TAG),
            "seconds": _seconds(run),
            "params": run.data.params,
        }
        for run in runs
    ]


def _seconds(run: Run) -> float:
    """Count from the start of the process where that is known, since its imports take seconds too.

    Its waiting for another process of the same stage is no work.
    """
    started = run.info.start_time / 1000
    _, _, mark = run.data.tags.get(PROCESS_TAG, "").partition(" ")
    if mark.isdecimal():
        ready = float(mark) + float(run.data.tags.get(WAITED_TAG, 0.0))
        if started - 600 < ready < started:
            started = ready
    return run.info.end_time / 1000 - started


def main() -> None:
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    prepare_environment()
    try:
        print(json.dumps({"runs": finished_runs()}))
    except Exception as error:  # whatever MLflow raises when its store is away, old or broken
        reason = redacted(first_line(error))[:200]
        name = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        print(json.dumps({"error": name + reason}))


if __name__ == "__main__":
    main()
