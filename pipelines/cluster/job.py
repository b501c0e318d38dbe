"""What travels between the flow and a worker, which outputs a stage reads, and what it asks of a machine."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from components.core.paths import ARCHIVES_DIR, DATASETS_DIR
from pipelines.graph import Stage, StageMeta
from pipelines.stage import Outcome

END_OF_LINES = ""  # no stage prints it: a line without text is never handed on
FETCHED_BYTES = 10_000_000  # larger outputs stay in the remote until somebody asks: `dvc pull`
GPU, CPU, MEMORY = "GPU", "CPU", "MEMORY"


@dataclass(frozen=True, slots=True)
class Job:
    """One stage for a worker.

    Attributes:
        run: names the flow's run, for its requests to stop.
        stage: what to run.
        inputs: outputs of other stages that it reads, to be fetched from the DVC remote.
        commit: of the code.
        params: the text of params.yaml.
        locked: entries of dvc.lock by stage: of those whose outputs it reads, and its own if it has one.
        variables: for the environment of the stage.
        force: run it even if it is unchanged.
        absent: stages above it that may fail and have.
    """

    run: str
    stage: Stage
    inputs: tuple[str, ...]
    commit: str
    params: str
    locked: dict[str, Any]
    variables: dict[str, str] = field(default_factory=dict)
    force: bool = False
    absent: tuple[Stage, ...] = ()

    @property
    def topic(self) -> str:
        """Under which the worker sends what the stage prints."""
        return f"virtex/{self.run}/{self.stage.name}"


@dataclass(frozen=True, slots=True)
class JobEnd:
    """What became of it.

    Attributes:
        outcome: as of a stage that ran here.
        locked: the stage's new entry of dvc.lock, its outputs being in the DVC remote; None without results.
    """

    outcome: Outcome
    locked: dict[str, Any] | None = None


def sources_of(stage: Stage, stages: Iterable[Stage]) -> list[Stage]:
    """Return those of ``stages`` whose outputs ``stage`` reads.

    They are those above it in the graph and, if it reads files that are unpacked from archives, those that
    fetched these: what is unpacked is no stage's output, and made again on a machine that lacks it.
    """
    unpacks = _unpacks(stage)
    return [
        other
        for other in stages
        if other.name in stage.upstream or (unpacks and any(_is_archive(out) for out in other.outs))
    ]


def inputs_of(stage: Stage, sources: Iterable[Stage]) -> tuple[str, ...]:
    """Return paths of what ``stage`` reads of the outputs of ``sources``.

    It may read a part of an output, or a folder with several of them in it. Of the datasets all comes with
    the manifest of a part: it may name images that the drawn world has in another folder.
    """
    found: dict[str, None] = {}
    outs = [PurePosixPath(out) for source in sources for out in source.outs]
    for dep in map(PurePosixPath, stage.deps):
        for out in outs:
            if dep.is_relative_to(out):
                found[str(out if out == PurePosixPath(DATASETS_DIR) else dep)] = None
            elif out.is_relative_to(dep):
                found[str(out)] = None
    if _unpacks(stage):
        found |= {str(out): None for out in outs if _is_archive(out)}
    return tuple(found)


def _unpacks(stage: Stage) -> bool:
    return any(PurePosixPath(dep).is_relative_to(DATASETS_DIR) for dep in stage.deps)


def _is_archive(out: str | PurePosixPath) -> bool:
    return PurePosixPath(out).is_relative_to(ARCHIVES_DIR)


def small_outputs(entry: Mapping[str, Any]) -> list[str]:
    """Return paths of the outputs in an entry of dvc.lock that are worth having wherever the flow runs."""
    return [out["path"] for out in entry.get("outs", ()) if out.get("size", 0) <= FETCHED_BYTES]


def outdated_outputs(root: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Path]:
    """Return files and folders that are there, and are not those of the new entry."""
    known = {out["path"]: out.get("md5") for out in before.get("outs", ())}
    return [
        root / out["path"]
        for out in after.get("outs", ())
        if known.get(out["path"]) != out.get("md5") and (root / out["path"]).exists()
    ]


def demands(meta: StageMeta, machines: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the resources to reserve for a stage: what it asks for, or the largest of these machines' all.

    Args:
        meta: of the stage. ``all`` GPUs or cores are those of the machine that has most.
        machines: resources of the workers.

    A machine without GPUs runs the stage without, as ``virtex run`` does; so a cluster without GPUs does.
    """
    wanted = {
        GPU: float("inf") if meta.gpus == "all" else float(meta.gpus),
        CPU: float("inf") if meta.cpus == "all" else float(meta.cpus),
        MEMORY: float(meta.memory_heavy),
    }
    granted = [
        {name: min(most, machine.get(name, 0)) for name, most in wanted.items()} for machine in machines
    ]
    best = max(granted, key=lambda grant: (grant[GPU], grant[CPU], grant[MEMORY]), default={})
    return {name: number for name, number in best.items() if number}
