"""Where a flow's stages run: on this machine, or on the workers of a cluster."""

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from components.core.errors import InputError
from pipelines.dvc_internals import default_remote
from pipelines.graph import Plan, Stage
from pipelines.preparation import stages_at_a_time
from pipelines.process import Stop
from pipelines.stage import Log, Outcome, StageRunner

CLUSTER_VARIABLE = "VIRTEX_CLUSTER"


class Runner(Protocol):
    """What a flow asks of either."""

    @property
    def outcomes(self) -> dict[str, Outcome]: ...

    def has_results(self, stage: Stage) -> bool: ...

    def skip(self, stage: Stage) -> Outcome: ...

    def leave_out(self, stage: Stage, reason: str) -> Outcome: ...

    def run(self, stage: Stage, log: Log, absent: Sequence[Stage] = ()) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where stages run.

    Attributes:
        root: the repository.
        cluster: address of a Dask scheduler; None means this machine.
        max_parallel: stages at a time on this machine; None means ``stages_at_a_time``.
    """

    root: Path
    cluster: str | None = None
    max_parallel: int | None = None


def cluster_address(given: str | None) -> str | None:
    """Return ``given``, else ``VIRTEX_CLUSTER``; None means this machine."""
    return given or os.environ.get(CLUSTER_VARIABLE) or None


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Explain a failing import of what the extra ``cluster`` installs.

    Raises:
        InputError: it is not.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed: `pip install -e '.[cluster]'`") from error


def check_cluster(address: str, root: Path) -> None:
    """Find what is wrong with a cluster, or with this clone as a part of it, before a flow is started.

    Raises:
        InputError: says where, and what to do.
    """
    with installed():
        from pipelines.cluster.runner import fit_workers
    with fit_workers(address, root):
        pass


@contextlib.contextmanager
def stage_runner(
    place: Place,
    plan: Plan,
    unchanged: Collection[str],
    variables: Mapping[str, str],
    force: bool,
    stop: Stop,
    log: Log,
) -> Iterator[Runner]:
    """Give a runner for the stages of ``plan``.

    Args:
        place: where.
        plan: of the run.
        unchanged: names of the stages that will be skipped.
        variables: added to the environment of each stage.
        force: run stages even if they are unchanged.
        stop: once set, running stages are stopped and no other one starts.
        log: called with what happens besides the stages.

    Raises:
        InputError: the cluster, or this clone, is not fit for it.
    """
    if place.cluster is None:
        pull = default_remote(place.root) is not None
        at_a_time = place.max_parallel or stages_at_a_time()
        to_run = [stage for stage in plan.stages if stage.name not in unchanged]
        yield StageRunner(place.root, dict(variables), force, stop, at_a_time, pull, to_run)
        return
    with installed():
        from pipelines.cluster.runner import cluster_runner
    with cluster_runner(
        place.cluster, place.root, plan, unchanged, dict(variables), force, stop, log
    ) as runner:
        yield runner
