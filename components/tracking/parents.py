"""The runs above the stages' runs: what the run of a whole pipeline is called, and what it says."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components.core import paths
from components.params import matching_presets
from components.params.yaml_files import load_yaml
from components.tracking.names import flatten
from components.tracking.provenance import close_orphaned_runs, provenance
from components.tracking.run import create_run

if TYPE_CHECKING:
    from components.tracking.store import Store

FLOW_TAG = "virtex.flow"
PRESET_TAG = "preset"
RUN_NAME_VARIABLE = "VIRTEX_RUN_NAME"
OWN_PARAMETERS = "own parameters"


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
