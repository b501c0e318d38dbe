"""The state of a workspace in ten lines, or with a line for every stage; how far a run is, in one."""

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from components.params import check_params
from pipelines.graph import SOURCES, Plan
from pipelines.status.costs import chosen_costs, finished_runs
from pipelines.status.state import StageState, Status

STALE_LINES = 5  # with the other five kinds of lines: ten
_LABEL_WIDTH = 13
_NEVER_RUN = "never run"


def as_lines(status: Status, width: int) -> list[str]:
    """Return at most ten lines, cut to ``width`` characters."""
    preset = f"preset {status.presets[0]}" if status.presets else "parameters of your own"
    lines = [_line("params.yaml", [preset], width)]
    if status.last_run_time is not None and status.last_run:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(status.last_run_time))
        lines.append(_line("last run", [f"{when}: {_outcomes(status.last_run)}"], width))
    if status.at_work:
        lines.append(_line("at work", status.at_work, width))
    stale = status.stale
    lines.append(_line("up to date", [_up_to_date(status)], width))
    if stale:
        lines += _stale_lines(stale, width)
        lines.append(_line("cost", _cost(status), width, separator="; "))
    return lines


def _up_to_date(status: Status) -> str:
    not_run = sum(bool(state.not_run) for state in status.stages)
    text = f"{len(status.stages) - len(status.stale) - not_run} of {len(status.stages)}"
    return f"{text}; {not_run} not run, since there are no data for them" if not_run else text


def all_lines(status: Status) -> list[str]:
    """Return every stage on a line of its own, however long."""
    size = max(len(state.stage.name) for state in status.stages)
    return [f"{state.stage.name:<{size}}  {_standing(state, status)}" for state in status.stages]


def shown_seconds(seconds: float) -> str:
    """Return ``45 s``, ``3 min`` or ``2.5 h``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


def _stale_lines(stale: Sequence[StageState], width: int) -> list[str]:
    """Return a line for the stages with the same reasons; those that only wait for others have the last."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for state in stale:
        groups.setdefault(_why(state), []).append(state.stage.name)
    waiting, new = groups.pop((), []), groups.pop((_NEVER_RUN,), [])
    lines = [
        _line("stale", [f"{', '.join(names)}: {why[0]}", *why[1:]], width) for why, names in groups.items()
    ]
    lines += [
        _line(label, names, width) for label, names in (("never run", new), ("after these", waiting)) if names
    ]
    if len(lines) > STALE_LINES:
        hidden = len(lines) - STALE_LINES + 1
        lines[STALE_LINES - 1 :] = [_line("", [f"and {hidden} lines more; see virtex status --all"], width)]
    return lines


def _why(state: StageState) -> tuple[str, ...]:
    """Return the reasons as phrases: the first of each kind names the kind."""
    phrases: list[str] = []
    for reason in state.reasons:
        if not reason.what:
            phrases.append("its command" if reason.kind == "command" else reason.kind)
        phrases += [f"{reason.kind} {what}" if place == 0 else what for place, what in enumerate(reason.what)]
    return tuple(phrases)


def _standing(state: StageState, status: Status) -> str:
    if state.not_run:
        return f"not run: {state.not_run}"
    if not state.is_stale:
        return "up to date"
    parts = [*_why(state), *([f"after {', '.join(state.after)}"] if state.after else [])]
    return f"{'; '.join(parts)} [{_own_cost(state, status)}]"


def _own_cost(state: StageState, status: Status) -> str:
    if state.is_in_cache:
        return "in DVC's cache"
    cost = status.costs.get(state.stage.name)
    if cost is None:
        return "time unknown"
    about = f"about {shown_seconds(cost.seconds)}"
    return about if state.stage.name in status.comparable() else f"{about} with other parameters"


def _outcomes(states: Mapping[str, str]) -> str:
    failed = [stage for stage, state in states.items() if state == "failed"]
    text = ", ".join(f"{number} {state}" for state, number in Counter(states.values()).most_common())
    return f"{text} ({', '.join(failed)})" if failed else text


def _cost(status: Status) -> list[str]:
    """Return what it takes to bring the stale stages up to date, as phrases."""
    names, comparable = status.to_run(), status.comparable()
    in_cache = sum(state.is_in_cache for state in status.stale)
    phrases = [f"{in_cache} of {len(status.stale)} are in DVC's cache"] if in_cache else []
    if status.costs_unknown:
        return [*phrases, f"time unknown, MLflow does not tell: {status.costs_unknown}"]
    known = [name for name in names if name in comparable and name in status.costs]
    others = [name for name in names if name in status.costs and name not in known]
    unknown = [name for name in names if name not in status.costs]
    if known:
        phrases.append(f"about {_sum(status, known)}")
    if others:
        phrases.append(f"with other parameters it took {_sum(status, others)}")
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        phrases.append(f"unknown for {', '.join(unknown[:3])}{more}")
    return phrases


def _sum(status: Status, names: Sequence[str]) -> str:
    """Return the time of the stages one after the other, and which take most of it."""
    seconds = {name: status.costs[name].seconds for name in names}
    longest = sorted(seconds, key=seconds.__getitem__, reverse=True)[:3]
    shown = ", ".join(f"{name} {shown_seconds(seconds[name])}" for name in longest)
    return f"{shown_seconds(sum(seconds.values()))} ({shown}{', ...' if len(seconds) > 3 else ''})"


def _line(label: str, items: Sequence[str], width: int, separator: str = ", ") -> str:
    """Return the label and as many of the items as there is room for, at least one."""
    room = width - _LABEL_WIDTH
    for number in range(len(items), 0, -1):
        more = f" and {len(items) - number} more" if number < len(items) else ""
        text = separator.join(items[:number]) + more
        if len(text) <= room:
            break
    if len(text) > room:
        text = text[: room - 3].rstrip(" ,;") + "..."
    return f"{label:<{_LABEL_WIDTH}}{text}".rstrip()


class Progress:
    """How far a run is: its stages that are done, and about how long the others take, where that is known.

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
        ends: dict[str, float] = {}  # with no limit on stages at a time
        for stage in left:
            ends[stage.name] = known[stage.name] + max(
                (ends.get(name, 0.0) for name in stage.upstream), default=0.0
            )
        one_by_one = sum(known[stage.name] for stage in left)
        return f"{text}, about {shown_seconds(max(*ends.values(), one_by_one / self._at_a_time))} left"


def _known_seconds() -> dict[str, float]:
    """Return seconds by stage, of earlier runs with the parameters in force; raise whatever MLflow raises."""
    values = {name: section.model_dump() for name, section in check_params().items()}
    costs = chosen_costs(finished_runs(), values)
    return {SOURCES: 0.0} | {stage: cost.seconds for stage, cost in costs.items() if cost.same_params}
