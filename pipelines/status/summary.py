"""The whole state of a workspace, gathered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.params import check_params, matching_presets
from components.params.reading import reasons_not_run
from pipelines.graph import SOURCES
from pipelines.outcomes import last_run_time, read_states
from pipelines.status.costs import Cost, CostsUnknown, cost_query
from pipelines.status.staleness import StageState, stage_states
from pipelines.workspace import stages_at_work


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
        """Stale stages to compute, not only to take from DVC's cache; `sources` takes no time."""
        return tuple(
            state.stage.name for state in self.stale if not state.is_in_cache and state.stage.name != SOURCES
        )

    def comparable(self) -> frozenset[str]:
        """Stages whose known cost is that of the work as it is now: its parameters and its inputs' too."""
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


def as_json(status: Status) -> dict[str, Any]:
    """For programs: one entry a stage; seconds are null where nothing is known."""
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
