"""Which outputs a stage reads, and which of them a flow brings home."""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from components.core.paths import ARCHIVES_DIR, DATASETS_DIR
from pipelines.graph import Stage

FETCHED_BYTES = 10_000_000  # larger outputs stay in the remote until somebody asks: `dvc pull`


def sources_of(stage: Stage, stages: Iterable[Stage]) -> list[Stage]:
    """Those of ``stages`` whose outputs ``stage`` reads.

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
    """Paths of what ``stage`` reads of the outputs of ``sources``.

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
    """Paths of the outputs in an entry of dvc.lock that are worth having wherever the flow runs."""
    return [out["path"] for out in entry.get("outs", ()) if out.get("size", 0) <= FETCHED_BYTES]


def outdated_outputs(root: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Path]:
    """Files and folders that are there, and are not those of the new entry."""
    known = {out["path"]: out.get("md5") for out in before.get("outs", ())}
    return [
        root / out["path"]
        for out in after.get("outs", ())
        if known.get(out["path"]) != out.get("md5") and (root / out["path"]).exists()
    ]
