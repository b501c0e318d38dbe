"""DVC's cache against its own names, which are the MD5 of what they hold.

DVC links its outputs to the files of its cache, makes these read-only, and trusts a read-only file without
reading it. So a file that was damaged (written to by root, emptied by a power cut, a flipped bit) is handed
out, and put over a new output of the same content, for ever. Here it is read; what is damaged is moved
aside, and DVC then takes it for missing.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from components.core import machine

DAMAGED = "damaged"  # folder in the cache
_OBJECTS = Path("files") / "md5"
_FOLDER_MARK = ".dir"  # follows the name of a file that lists a folder


def all_objects(cache: Path) -> list[str]:
    """Return the names of all files in the cache at ``cache``."""
    return sorted(
        f"{folder.name}{path.name}"
        for folder in (cache / _OBJECTS).glob("??")
        for path in folder.iterdir()
        if len(path.name.removesuffix(_FOLDER_MARK)) == 30
    )


def with_members(cache: Path, names: Iterable[str]) -> list[str]:
    """Return the names, and per name that lists a folder those of the files in it."""
    found: dict[str, None] = {}
    for name in names:
        found[name] = None
        if name.endswith(_FOLDER_MARK):
            try:
                members = json.loads(object_path(cache, name).read_bytes())
                found |= dict.fromkeys(str(member["md5"]) for member in members)
            except (OSError, ValueError, KeyError, TypeError):  # itself damaged, or away
                continue
    return list(found)


def damaged_objects(cache: Path, names: Iterable[str], largest: int | None = None) -> Iterator[str]:
    """Yield those whose contents are not what their names say; absent ones are not damaged.

    What is read is made safe against a power cut too (fsync), which DVC does not do.

    Args:
        cache: the folder.
        names: of files in it.
        largest: bytes; larger files are not read, but empty ones are always found.
    """
    checked = list(names)
    with ThreadPoolExecutor(machine.num_cpus(), "cache-reader") as pool:
        intact = pool.map(lambda name: _is_intact(object_path(cache, name), name, largest), checked)
        yield from (name for name, good in zip(checked, intact, strict=True) if not good)


def set_aside(cache: Path, name: str) -> Path:
    """Move a damaged file out of DVC's sight; returns where it is now. Links to it stay as they are."""
    folder = cache / DAMAGED
    folder.mkdir(exist_ok=True)
    number = len(list(folder.glob(f"{name}*")))
    target = folder / (f"{name}-{number}" if number else name)
    object_path(cache, name).rename(target)
    return target


def object_path(cache: Path, name: str) -> Path:
    """Return the path of a file in the cache."""
    return cache / _OBJECTS / name[:2] / name[2:]


def _is_intact(path: Path, name: str, largest: int | None) -> bool:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size and largest is not None and size > largest:
                return True
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            os.fsync(file.fileno())
    except FileNotFoundError:
        return True
    return digest == name.removesuffix(_FOLDER_MARK)
