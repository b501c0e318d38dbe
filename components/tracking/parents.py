"""The runs above the stages' runs: of a whole pipeline, and of a ``dvc repro`` without our flow.

Of the latter, whichever stage comes first makes it and starts a small process that waits for DVC to end and
then completes the record as the flow would (pipelines.repro_record): DVC itself has no place for that. Should
that process end with DVC, as in a container, the run has at least the status of its last stage.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components.core import paths
from components.core.process import process_mark
from components.params import matching_presets
from components.params.reading import load_yaml
from components.tracking.names import flatten
from components.tracking.provenance import HOST_TAG, PROCESS_TAG, close_orphaned_runs, provenance
from components.tracking.run import create_run, log_params

if TYPE_CHECKING:
    import psutil

    from components.tracking.store import Store

FLOW_TAG = "virtex.flow"
PRESET_TAG = "preset"
RUN_NAME_VARIABLE = "VIRTEX_RUN_NAME"
OWN_PARAMETERS = "own parameters"
_STAGE_VARIABLE = "DVC_STAGE"  # DVC sets it for each command
_EXPERIMENT_VARIABLE = "DVC_EXP_NAME"  # and this one within `dvc exp run`
_CLOSER = "pipelines.repro_record"  # a process of its own, not an import


def run_name(preset: str | None = None) -> str:
    """Name a run for people: the preset in force and the time, ``demo · 2026-11-22 14:05``.

    ``VIRTEX_RUN_NAME`` names it otherwise.
    """
    known = os.environ.get(RUN_NAME_VARIABLE) or preset or preset_in_force()
    return f"{known} · {time.strftime('%Y-%m-%d %H:%M')}"


def preset_in_force() -> str:
    """Return the most specific preset whose values params.yaml has, else ``own parameters``."""
    return next(iter(matching_presets()), OWN_PARAMETERS)


def all_params(path: Path = paths.PARAMS) -> dict[str, object]:
    """Return every parameter of params.yaml as ``section.key``; nothing where there is no such file."""
    return dict(flatten(load_yaml(path))) if path.is_file() else {}


def create_flow_run(
    store: Store,
    name: str,
    flow: str,
    source: str,
    parent_run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> str:
    """Create the run and close those of the same ``flow`` whose process no longer exists; return its id.

    Raises whatever MLflow raises.
    """
    close_orphaned_runs(store, FLOW_TAG, flow)
    return create_run(store, provenance(name, source) | {FLOW_TAG: flow} | dict(tags or {}), parent_run_id)


def parent_of_repro(store: Store) -> str | None:
    """Return the id of the run of the DVC process that started this one; None if there is no such process.

    Raises whatever MLflow raises.
    """
    if _STAGE_VARIABLE not in os.environ:
        return None
    dvc = _dvc_process()
    if dvc is None:
        return None
    mark = process_mark(dvc.pid)
    found = store.client.search_runs(
        [store.experiment_id],
        filter_string=(
            f"tags.`{FLOW_TAG}` = 'virtex' and tags.`{PROCESS_TAG}` = '{mark}' "
            f"and tags.`{HOST_TAG}` = '{socket.gethostname()}'"
        ),
        max_results=1,
    )
    if found:
        store.client.update_run(found[0].info.run_id, status="RUNNING")
        return str(found[0].info.run_id)
    experiment = os.environ.get(_EXPERIMENT_VARIABLE)
    preset = preset_in_force()
    tags = {PROCESS_TAG: mark, PRESET_TAG: preset} | ({"dvc.experiment": experiment} if experiment else {})
    name = run_name(f"{preset}, {experiment}" if experiment else preset)
    run_id = create_flow_run(store, name, "virtex", " ".join(["dvc", *_arguments(dvc)]), tags=tags)
    log_params(store, run_id, all_params())
    _start_closer(run_id, mark)
    return run_id


def _dvc_process() -> psutil.Process | None:
    import psutil

    for process in psutil.Process().parents():
        try:
            parts = process.cmdline()
        except psutil.Error:
            continue
        if any(Path(part).name == "dvc" for part in parts[:3]):
            return process
    return None


def _arguments(dvc: psutil.Process) -> list[str]:
    """Return what the user asked of DVC: ``repro``, ``exp run -S ...``."""
    parts = dvc.cmdline()
    return parts[next(i for i, part in enumerate(parts) if Path(part).name == "dvc") + 1 :]


def _start_closer(run_id: str, mark: str) -> None:
    subprocess.Popen(
        [sys.executable, "-m", _CLOSER, run_id, mark],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for DVC
    )
