"""What precedes the runs of a family: each row's workspace brought up to date, its parameters, its plan."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from components.core.paths import PARAMS
from components.params import overlay
from components.params.families import Family, FamilyRow
from components.params.reading import load_yaml
from components.tracking.names import flatten
from pipelines.graph import Plan
from pipelines.preparation import prepare
from pipelines.row import ReadyRow
from pipelines.row_workspace import (
    bring_up_to_date,
    link_imported_backbones,
    reach_inputs,
    share_unpacked_archives,
    workspace_dir,
)
from pipelines.workspace import end_leftovers, run_lock


def ready_rows(
    root: Path,
    family: Family,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    targets: Sequence[str] = (),
    is_stopped: Callable[[], bool] = lambda: False,
) -> list[ReadyRow]:
    """Prepare every row, none of which has started yet.

    Args:
        root: the repository, absolute.
        family: the rows to prepare.
        preset: the base; none means the user's params.yaml as it is.
        overrides: ``section.key=value`` changes of the base.
        targets: stages to plan; none means all.
        is_stopped: asked before each row.

    To be called with the run lock of the family's folder held.

    Raises:
        InputError: bad parameters, or a row whose workspace is at work.
        KeyboardInterrupt: once ``is_stopped``.
    """
    ready = []
    for row in family.rows:
        if is_stopped():
            raise KeyboardInterrupt
        workspace = root / workspace_dir(family.name, row.name)
        with run_lock(workspace), contextlib.chdir(workspace):
            plan, notices = _prepare(root, workspace, row, preset, overrides, targets)
        ready.append(ReadyRow(row, workspace, plan, tuple(notices)))
    return ready


def _prepare(
    root: Path,
    workspace: Path,
    row: FamilyRow,
    preset: str | None,
    overrides: Sequence[str],
    targets: Sequence[str],
) -> tuple[Plan, list[str]]:
    left = [f"Ended {stage}, left over from a run that died." for stage in end_leftovers(workspace)]
    bring_up_to_date(root, workspace)
    link_imported_backbones(root, workspace)
    changes = overlay(row.preset or preset, [*overrides, *row.overrides])
    share_unpacked_archives(root, workspace)
    plan, notices = prepare(workspace, targets, overrides=reach_inputs(root, workspace))
    return plan, [*left, *(f"params.yaml: {change}" for change in changes), *notices]


def shared_stages(ready: Sequence[ReadyRow]) -> list[str]:
    """Names of the stages that are the same in all rows, in order.

    They and all that they need read no parameter in which the rows differ.
    """
    varying = _varying_keys([load_yaml(row.workspace / PARAMS) for row in ready])
    everywhere = set.intersection(*({stage.name for stage in row.plan.stages} for row in ready))
    shared: list[str] = []
    for stage in ready[0].plan.stages:
        reads = any(_overlap(key, other) for key in stage.params for other in varying)
        if stage.name in everywhere and not reads and set(stage.upstream) <= set(shared):
            shared.append(stage.name)
    return shared


def _varying_keys(trees: Sequence[dict[str, Any]]) -> set[str]:
    flat = [dict(flatten(tree)) for tree in trees]
    keys = {key for values in flat for key in values}
    return {key for key in keys if any(values.get(key, ...) != flat[0].get(key, ...) for values in flat)}


def _overlap(key: str, other: str) -> bool:
    """Whether one is the other or lies within it: ``textual_head`` and ``textual_head.num_layers``."""
    return f"{other}.".startswith(f"{key}.") or f"{key}.".startswith(f"{other}.")
