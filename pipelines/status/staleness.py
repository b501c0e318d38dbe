"""Which stages DVC would run, and why, in the words of whoever changed something.

Asks DVC's own stages and run cache, by private interfaces as pipelines.graph does. Takes none of DVC's
locks, so that it answers while stages are at work.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from components.params import Download, read_section
from components.sources.fingerprint import changed_sources
from components.tracking.names import flatten
from pipelines.graph import SOURCES, Stage, base_name, planned_stages

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
    """The states of the targets' stages and all that they need, in an order that respects the graph.

    Args:
        targets: names of stages; none means all.
        not_run: why stages are not run, by their names without the item.

    Raises:
        InputError: as ``pipelines.graph.read_plan``.
    """
    with planned_stages(targets) as pairs:
        files = _Files()
        reasons = {stage.name: tuple(_reasons(node, files)) for stage, node in pairs}
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
        cached = _in_cache(pairs, stale, files)
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


class _Files:
    """What DVC finds on the disk, each file and folder read once: many stages depend on the same ones."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, str], tuple[Any, Any]] = {}

    def read(self, item: Any) -> tuple[Any, Any]:
        """DVC's hash and notes (its ``Meta``) of a dependency or an output that exists, not of parameters."""
        key = item.fs_path, item.hash_name
        if key not in self._read:
            meta, hash_info = item._get_hash_meta()
            self._read[key] = hash_info, meta
        return self._read[key]

    def change(self, item: Any) -> str | None:
        """What happened to a dependency or an output since DVC recorded it, as words after its name."""
        if not item.exists:
            return "is missing"
        if not item.hash_info:
            return "is new"
        return "changed" if self.read(item)[0] != item.hash_info else None


def _reasons(node: Any, files: _Files) -> Iterator[Reason]:
    if not any(out.hash_info for out in node.outs):
        yield Reason("never run")
        return
    if node.changed_stage():
        yield Reason("command")
    changed: dict[str, list[str]] = {"params": [], "code": [], "data": []}
    for dep in node.deps:
        kind = _kind(dep)
        if kind == "params":
            changed[kind] += _changed_params(dep)
        elif change := files.change(dep):
            changed[kind].append(_worded(dep, change))
    if node.addressing == SOURCES:
        changed["data"] += changed_sources(read_section(Download))
    for kind, what in changed.items():
        if what:
            yield Reason(kind, tuple(what))
    outputs = [_worded(out, change) for out in node.outs if (change := _changed_output(out, files))]
    if outputs:
        yield Reason("outputs", tuple(outputs))


def _changed_output(out: Any, files: _Files) -> str | None:
    lost = out.hash_info and out.use_cache and out.changed_cache()
    return "is not in DVC's cache" if lost else files.change(out)


def _worded(item: Any, change: str) -> str:
    return str(item) if change == "changed" else f"{item} {change}"


def _kind(dep: Any) -> str:
    if _is_params(dep):
        return "params"
    path = Path(str(dep))
    return "code" if path.suffix == _CODE_SUFFIX or path.parts[0] == _CODE_FOLDER else "data"


def _is_params(dep: Any) -> bool:
    return hasattr(dep, "params")


def _changed_params(dep: Any) -> Iterator[str]:
    before = dict(flatten(dep.hash_info.value or {}))
    now = dict(flatten(dep.read_params(flatten=False)))
    for key in dict.fromkeys([*now, *before]):
        if before.get(key, _NOTHING) != now.get(key, _NOTHING):
            yield f"{key} {_shown(before, key)} -> {_shown(now, key)}"


_NOTHING = object()


def _shown(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return "(none)"
    return "null" if values[key] is None else str(values[key])


def _in_cache(pairs: Sequence[tuple[Stage, Any]], stale: set[str], files: _Files) -> set[str]:
    """The stale stages that DVC's run cache has, as far as what they would be run with is known.

    That is what lies on the disk, and for outputs of stages in the cache what it would put there. Changes
    what the nodes hold in memory.
    """
    known: dict[str, tuple[Any, Any]] = {}  # outputs that will be restored: path to hash and notes
    unknown: list[str] = []  # outputs that will be made, with contents that nobody knows yet
    found: set[str] = set()
    for stage, node in pairs:
        if stage.name not in stale:
            continue
        outs = _restored(node, known, unknown, files)
        if outs is None:
            unknown += [out.fs_path for out in node.outs]
        else:
            known |= outs
            found.add(stage.name)
    return found


def _restored(
    node: Any, known: Mapping[str, tuple[Any, Any]], unknown: Sequence[str], files: _Files
) -> dict[str, tuple[Any, Any]] | None:
    """What the cache has for the stage: path to hash and notes; None if nothing, or if nobody can tell."""
    from dvc.exceptions import DvcException

    if node.always_changed or not node.deps:
        return None  # DVC keeps no runs of it
    try:
        for dep in node.deps:
            if _is_params(dep):
                dep.hash_info = dep.get_hash()
                continue
            future = known.get(dep.fs_path)
            if future is None and any(_overlap(dep.fs_path, path) for path in [*known, *unknown]):
                return None
            dep.hash_info, dep.meta = future or files.read(dep)
            dep.get_hash = partial(_given, dep.hash_info)  # the cache asks again, for what is not there yet
        entry = node.repo.stage_cache._load(node)
        if not entry:
            return None
        made = node.repo.stage_cache._create_stage(entry, wdir=node.wdir)
        return {out.fs_path: (out.hash_info, out.meta) for out in made.outs} if made.outs_cached() else None
    except (DvcException, OSError):  # an input is missing
        return None


def _given(value: Any) -> Any:
    return value


def _overlap(first: str, second: str) -> bool:
    return Path(first).is_relative_to(second) or Path(second).is_relative_to(first)
