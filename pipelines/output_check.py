"""Outputs of a stage that was run or restored, against what dvc.lock says they are."""

import functools
import os
import shutil
from pathlib import Path

from components.core.dvc_cache import damaged_objects, object_path, set_aside, with_members
from components.core.errors import InputError
from components.params.reading import load_yaml
from pipelines.graph import cache_folder

CHECK_VARIABLE = "VIRTEX_CHECK_OUTPUTS"
SMALL_BYTES = 10_000_000


def repair_outputs(root: Path, stage: str) -> list[str]:
    """Move damaged files of DVC's cache aside that the stage's outputs are links to, and drop these.

    Reads each output once more, as fast as MD5 and the disk go; ``VIRTEX_CHECK_OUTPUTS=small`` leaves out
    files above 10 MB.

    Returns a line for each damaged file, none if all is well; then DVC runs the stage again when asked.
    """
    outs = {str(out["path"]): str(out.get("md5", "")) for out in _locked(root, stage)}
    cache = _cache(root)
    lines: list[str] = []
    for path, name in outs.items():
        for damaged in damaged_objects(cache, with_members(cache, [name]) if name else [], _largest()):
            size = object_path(cache, damaged).stat().st_size
            aside = set_aside(cache, damaged)
            lines.append(f"{path}: damaged in DVC's cache ({damaged}, {size:,} bytes), moved to {aside}")
            _drop(root / path)
    return lines


@functools.cache
def _cache(root: Path) -> Path:
    return cache_folder(root)


def _largest() -> int | None:
    chosen = os.environ.get(CHECK_VARIABLE) or "all"
    if chosen not in ("all", "small"):
        raise InputError(f"{CHECK_VARIABLE} is {chosen!r}: expected all or small")
    return SMALL_BYTES if chosen == "small" else None


def _locked(root: Path, stage: str) -> list[dict[str, object]]:
    path = root / "dvc.lock"
    stages = (load_yaml(path).get("stages") or {}) if path.is_file() else {}
    return list((stages.get(stage) or {}).get("outs") or [])


def _drop(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
