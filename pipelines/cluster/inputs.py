"""Which outputs a stage reads, and which of them a flow brings home."""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.graph import Stage

FETCHED_BYTES = 10_000_000  # larger outputs stay in the remote until somebody asks: `dvc pull`


def inputs_of(stage: Stage, above: Iterable[Stage]) -> tuple[str, ...]:
    """Paths of what ``stage`` reads of the outputs of the stages ``above`` it.

    It may read a part of an output, or a folder with several of them in it.
    """
    found: dict[str, None] = {}
    for dep in map(PurePosixPath, stage.deps):
        for out in (PurePosixPath(out) for upper in above for out in upper.outs):
            if dep.is_relative_to(out):
                found[str(dep)] = None
            elif out.is_relative_to(dep):
                found[str(out)] = None
    return tuple(found)


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
