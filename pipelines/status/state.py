"""Which stages DVC would run and why, and the whole state of a workspace.

Takes none of DVC's locks, so that it answers while stages are at work.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from components.params import check_params, matching_presets
from components.params.reading import reasons_not_run
from pipelines.dvc_internals import Changes, Disk, changes_of, planned_stages, read_plan, stages_in_cache
from pipelines.graph import SOURCES, Stage, base_name, changed_data
from pipelines.record import last_run_time, read_states
from pipelines.status.costs import Cost, CostsUnknown, cost_query
from pipelines.workspace import stages_at_work

_CODE_FOLDER = "components"
_CODE_SUFFIX = ".py"
_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a stage is stale.

    Attributes:
        kind: ``never run``, ``command``, ``code``, ``params``, ``data`` or ``outputs``.
        what: the files, or the parameters with their values before and now.
    """

    kind: str
    what: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StageState:
    """How a stage stands.

    Attributes:
        reasons: its own; none where it is up to date, or stale only through others.
        after: the stale stages that it waits for directly.
        is_in_cache: stale, but DVC has its outputs for what it would be run with.
        not_run: why it is not run, and never stale; empty if it is.
    """

    stage: Stage
    reasons: tuple[Reason, ...] = ()
    after: tuple[str, ...] = ()
    is_in_cache: bool = False
    not_run: str = ""

    @property
    def is_stale(self) -> bool:
        return bool(self.reasons or self.after)


def stage_states(targets: Sequence[str] = (), not_run: Mapping[str, str] = _NONE) -> list[StageState]:
    """Return the states of the targets' stages and all that they need, in an order that respects the graph.

    Args:
        targets: names of stages; none means all.
        not_run: why stages are not run, by their names without the item.

    Raises:
        InputError: as ``pipelines.dvc_internals.read_plan``.
    """
    with planned_stages(targets) as pairs:
        disk = Disk()
        reasons = {stage.name: tuple(_reasons(stage, changes_of(node, disk))) for stage, node in pairs}
        stale: set[str] = set()
        left_out: dict[str, str] = {}
        for stage, _ in pairs:
            why = not_run.get(base_name(stage.name))
            if why and not (reasons[stage.name] and _has_results(stage)):
                left_out[stage.name] = why
            elif why:
                reasons[stage.name] = (Reason("data", (f"{why}: its earlier results go",)),)
                stale.add(stage.name)
            elif reasons[stage.name] or stale.intersection(stage.upstream):
                stale.add(stage.name)
        cached = stages_in_cache(pairs, stale, disk)
        return [
            StageState(stage, not_run=left_out[stage.name])
            if stage.name in left_out
            else StageState(
                stage,
                reasons[stage.name],
                tuple(name for name in stage.upstream if name in stale),
                stage.name in cached,
            )
            for stage, _ in pairs
        ]


def _has_results(stage: Stage) -> bool:
    return any(Path(out).exists() for out in stage.outs)


def _reasons(stage: Stage, changes: Changes) -> Iterator[Reason]:
    if changes.never_run:
        yield Reason("never run")
        return
    if changes.command:
        yield Reason("command")
    found: dict[str, list[str]] = {
        "params": [f"{key} {before} -> {now}" for key, before, now in changes.params],
        "code": [],
        "data": [],
    }
    for path, change in changes.deps:
        found[_kind(path)].append(_worded(path, change))
    if stage.name == SOURCES:
        found["data"] += changed_data()
    found["outputs"] = [_worded(path, change) for path, change in changes.outs]
    for kind, what in found.items():
        if what:
            yield Reason(kind, tuple(what))


def _worded(path: str, change: str) -> str:
    return path if change == "changed" else f"{path} {change}"


def _kind(dep: str) -> str:
    path = Path(dep)
    return "code" if path.suffix == _CODE_SUFFIX or path.parts[0] == _CODE_FOLDER else "data"


@dataclass(frozen=True, slots=True)
class Status:
    """How a workspace stands.

    Attributes:
        presets: those in force, the most specific first; empty for parameters of one's own.
        stages: their states, in an order that respects the graph.
        costs: of earlier runs, by stage.
        costs_unknown: why there are none, if the record could not be read.
        last_run: what the last `virtex run` here did with its stages.
        last_run_time: when, in seconds of the epoch.
        at_work: stages that a run here has started and that are not done.
    """

    presets: tuple[str, ...]
    stages: tuple[StageState, ...]
    costs: Mapping[str, Cost]
    costs_unknown: str | None = None
    last_run: Mapping[str, str] | None = None
    last_run_time: float | None = None
    at_work: tuple[str, ...] = ()

    @property
    def stale(self) -> tuple[StageState, ...]:
        return tuple(state for state in self.stages if state.is_stale)

    def to_run(self) -> tuple[str, ...]:
        """Return stale stages to compute, not only to take from DVC's cache; `sources` takes no time."""
        return tuple(
            state.stage.name for state in self.stale if not state.is_in_cache and state.stage.name != SOURCES
        )

    def comparable(self) -> frozenset[str]:
        """Return stages whose known cost is that of the work as it is now: its parameters', its inputs'."""
        good: set[str] = set()
        for state in self.stages:
            cost = self.costs.get(state.stage.name)
            own = not state.is_stale or (cost is not None and cost.same_params)
            if own and good.issuperset(state.after):
                good.add(state.stage.name)
        return frozenset(good)


def read_status(root: Path, targets: Sequence[str] = ()) -> Status:
    """Look at the repository at ``root``, the working directory; changes nothing.

    Raises:
        InputError: parameters that do not fit, an unknown target, no DVC repository.
    """
    sections = check_params()
    values = {name: section.model_dump() for name, section in sections.items()}
    costs: Mapping[str, Cost] = {}
    unknown = None
    with cost_query() as query:
        stages = tuple(stage_states(targets, reasons_not_run(sections)))
        presets = tuple(matching_presets())
        if any(state.is_stale and not state.is_in_cache for state in stages):
            try:
                costs = query.costs(values)
            except CostsUnknown as error:
                unknown = str(error)
    return Status(
        presets=presets,
        stages=stages,
        costs=costs,
        costs_unknown=unknown,
        last_run=read_states(root),
        last_run_time=last_run_time(root),
        at_work=tuple(stages_at_work(root)),
    )


def stale_in_lock(targets: Sequence[str] = ()) -> tuple[str, ...]:
    """Return stages that would not be what dvc.lock says; outputs on record and not here are no change.

    Raises:
        InputError: as ``read_status``.
    """
    return tuple(read_plan(targets, True, reasons_not_run(check_params())).pending)


def as_json(status: Status) -> dict[str, Any]:
    """Return for programs one entry per stage; seconds are null where nothing is known."""
    comparable = status.comparable()
    return {
        "presets": list(status.presets),
        "last_run_time": status.last_run_time,
        "at_work": list(status.at_work),
        "costs_unknown": status.costs_unknown,
        "stages": [
            {
                "stage": name,
                "stale": state.is_stale,
                "reasons": {reason.kind: list(reason.what) for reason in state.reasons},
                "after": list(state.after),
                "in_cache": state.is_in_cache,
                "not_run": state.not_run or None,
                "seconds": round(status.costs[name].seconds, 1) if name in status.costs else None,
                "seconds_comparable": name in comparable and name in status.costs,
                "last_run": (status.last_run or {}).get(name),
            }
            for state in status.stages
            for name in (state.stage.name,)
        ],
    }
