"""Inputs of a stage that other stages made, held against DVC's cache before it begins.

DVC trusts what it has linked without reading it. So a file that was damaged since (written to by root,
emptied by a power cut, a flipped bit) would be trained on, and its results be kept as good ones.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from components.core import paths
from components.core.dvc_cache import cache_folder, damaged_links, largest_checked, set_link_aside
from components.core.errors import InputError
from components.params.yaml_files import load_yaml

GRAPH = Path("dvc.yaml")
_MADE = (paths.DATASETS_DIR.parent, paths.OUTPUTS_DIR)
_SHOWN = 3  # files in a message; all are moved
_TEMPLATE = re.compile(r"\$\{[^}]+\}")


def require_sound_inputs(stage: str, arguments: Sequence[str]) -> None:
    """Read what dvc.yaml names as the inputs of a stage, as far as stages of ours made it.

    MD5 takes two seconds for a gigabyte, if the disk is as fast. ``VIRTEX_CHECK_OUTPUTS`` limits it.

    Raises:
        InputError: a file is damaged. The cache's file is moved aside, so that the next start makes it anew.
    """
    if not GRAPH.is_file():  # started by hand, elsewhere
        return
    cache = cache_folder()
    damaged = list(damaged_links(cache, _files(stage, arguments), largest_checked()))
    if damaged:
        found = "; ".join([_moved(cache, path) for path in damaged][:_SHOWN])
        more = f"; and {len(damaged) - _SHOWN} more" if len(damaged) > _SHOWN else ""
        raise InputError(f"{found}{more}. Start again: the stage that makes it runs first")


def _moved(cache: Path, path: Path) -> str:
    size = path.stat().st_size
    aside = set_link_aside(cache, path)
    moved = f", DVC's copy is moved to {aside}" if aside else ""
    return f"{path}: damaged: not what DVC has recorded ({size:,} bytes){moved}"


def _files(stage: str, arguments: Sequence[str]) -> Iterator[Path]:
    for place in _places(stage, arguments):
        if place.is_dir():
            yield from (path for path in sorted(place.rglob("*")) if path.is_file())
        elif place.is_file():
            yield place


def _places(stage: str, arguments: Sequence[str]) -> list[Path]:
    """Return the dependencies below ``data/`` and ``outputs/``, with the arguments in their templates."""
    entry = (load_yaml(GRAPH).get("stages") or {}).get(stage) or {}
    entry = entry.get("do", entry)
    values = dict(zip(_TEMPLATE.findall(str(entry.get("cmd", ""))), arguments, strict=False))
    places = [
        Path(_TEMPLATE.sub(lambda found: values.get(found[0], "*"), str(dep)))
        for dep in entry.get("deps", ())
    ]
    return [place for place in places if any(map(place.is_relative_to, _MADE))]
