"""How far a run is: its stages that are done, and about how long the others take, where that is known."""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

from components.params import check_params
from pipelines.graph import SOURCES, Plan
from pipelines.status.costs import chosen_costs, finished_runs
from pipelines.status.text import shown_seconds


class Progress:
    """Of one run.

    Args:
        plan: of the run.
        to_do: names of its stages that something is done for.
        at_a_time: stages.
        has_record: whether MLflow can be asked how long they took; a thread of its own asks it.
    """

    def __init__(self, plan: Plan, to_do: Collection[str], at_a_time: int, has_record: bool) -> None:
        self._stages = [stage for stage in plan.stages if stage.name in to_do]
        self._at_a_time = at_a_time
        thread = ThreadPoolExecutor(1)
        self._seconds = thread.submit(_known_seconds if has_record else dict[str, float])
        thread.shutdown(wait=False)

    def line(self, done: Collection[str]) -> str:
        """Return ``12 of 23 stages, about 6 min left``; no time while that of a stage is not known."""
        left = [stage for stage in self._stages if stage.name not in done]
        text = f"{len(self._stages) - len(left)} of {len(self._stages)} stages"
        known: Mapping[str, float] = {}
        if self._seconds.done() and not self._seconds.exception():
            known = self._seconds.result()
        if not left or any(stage.name not in known for stage in left):
            return text
        ends: dict[str, float] = {}  # with as many stages at a time as one likes
        for stage in left:
            ends[stage.name] = known[stage.name] + max(
                (ends.get(name, 0.0) for name in stage.upstream), default=0.0
            )
        one_by_one = sum(known[stage.name] for stage in left)
        return f"{text}, about {shown_seconds(max(*ends.values(), one_by_one / self._at_a_time))} left"


def _known_seconds() -> dict[str, float]:
    """By stage, of earlier runs with the parameters in force; raises whatever MLflow raises."""
    values = {name: section.model_dump() for name, section in check_params().items()}
    costs = chosen_costs(finished_runs(), values)
    return {SOURCES: 0.0} | {stage: cost.seconds for stage, cost in costs.items() if cost.same_params}
