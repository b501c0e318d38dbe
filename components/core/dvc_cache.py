"""DVC's cache against its own names, which are the MD5 of what they hold.

DVC links its outputs to the files of its cache, makes these read-only, and trusts a read-only file without
reading it. So a file that was damaged (written to by root, emptied by a power cut, a flipped bit) is handed
out, and put over a new output of the same content, for ever. Here it is read; what is damaged is moved
aside, and DVC then takes it for missing.
"""

import hashlib
import os
import stat
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader
from pathlib import Path

import platformdirs
from configobj import ConfigObj, ConfigObjError

from components.core import machine, paths
from components.core.errors import InputError
from components.core.files import parse_json, write_text

DAMAGED = "damaged"  # folder in the cache
CHECK_VARIABLE = "VIRTEX_CHECK_OUTPUTS"
SMALL_BYTES = 10_000_000
_LARGEST = {"all": None, "small": SMALL_BYTES, "none": 0}  # bytes of a file that is read, by CHECK_VARIABLE
_OBJECTS = Path("files") / "md5"
_FOLDER_MARK = ".dir"  # follows the name of a file that lists a folder
CHECKED = paths.SCRATCH_DIR / "cache_checked"
_CLOCK_SECONDS = 3.0  # steps of the coarsest file system's clock
_LINKED_MODE = 0o444  # by which DVC tells what it has put there


def cache_folder(root: Path = Path()) -> Path:
    """Return where DVC's settings for the repository at ``root`` put its cache.

    They are those of the machine, of the user, of the repository and its local ones, the last one counts.

    Raises:
        InputError: if a file of settings cannot be read.
    """
    found = root / ".dvc" / "cache"
    folders = (
        Path(os.environ.get("DVC_SYSTEM_CONFIG_DIR") or platformdirs.site_config_dir("dvc", "iterative")),
        Path(os.environ.get("DVC_GLOBAL_CONFIG_DIR") or platformdirs.user_config_dir("dvc", "iterative")),
        root / ".dvc",
    )
    for file in (*(folder / "config" for folder in folders), root / ".dvc" / "config.local"):
        try:
            place = ConfigObj(str(file)).get("cache", {}).get("dir")
        except (ConfigObjError, AttributeError, UnicodeError) as error:
            raise InputError(
                f"{file}: DVC's settings cannot be read: {' '.join(str(error).split())}"
            ) from None
        if place:
            found = file.parent / Path(place).expanduser()
    return found


def largest_checked() -> int | None:
    """Return bytes above which files are not held against their names; None: all of them are.

    Raises:
        InputError: if ``VIRTEX_CHECK_OUTPUTS`` is none of its values.
    """
    chosen = os.environ.get(CHECK_VARIABLE) or "all"
    if chosen not in _LARGEST:
        raise InputError(f"{CHECK_VARIABLE} is {chosen!r}: expected {', '.join(_LARGEST)}")
    return _LARGEST[chosen]


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
                members = parse_json(object_path(cache, name).read_bytes())
                found |= dict.fromkeys(str(member["md5"]) for member in members)
            except (OSError, ValueError, KeyError, TypeError):  # itself damaged, or away
                continue
    return list(found)


def damaged_objects(
    cache: Path, names: Iterable[str], largest: int | None = None, flush: bool = False
) -> Iterator[str]:
    """Yield those whose contents are not what their names say; absent ones are not damaged.

    Args:
        cache: the folder.
        names: of files in it.
        largest: bytes; larger files are not read, but empty ones are always found.
        flush: make what is read safe against a power cut too (fsync), which DVC does not do.
    """
    checked = list(names)
    with ThreadPoolExecutor(machine.num_cpus(), "cache-reader") as pool:
        intact = pool.map(lambda name: _is_intact(object_path(cache, name), name, largest, flush), checked)
        yield from (name for name, good in zip(checked, intact, strict=True) if not good)


def set_aside(cache: Path, name: str) -> Path:
    """Move a damaged file out of DVC's sight; returns where it is now. Links to it stay as they are."""
    folder = cache / DAMAGED
    folder.mkdir(exist_ok=True)
    number = len(list(folder.glob(f"{name}*")))
    target = folder / (f"{name}-{number}" if number else name)
    object_path(cache, name).rename(target)
    return target


def repair(cache: Path, largest: int | None = None, memory: Path | None = None) -> Iterator[str]:
    """Move damaged files of the cache aside; yields a line for each, which names what links to it.

    Args:
        cache: the folder.
        largest: bytes; larger files are not read, but empty ones are always found.
        memory: a file that says when this was done last; what was not touched since is not read again,
            unless it is empty.
    """
    started = time.time()
    since = _read_time(memory) if memory else 0.0
    for name in damaged_objects(cache, (n for n in all_objects(cache) if _is_news(cache, n, since)), largest):
        damaged = object_path(cache, name)
        size, links = damaged.stat().st_size, _links_to(damaged)
        shown = ", ".join(map(str, links)) or name
        yield f"{shown}: damaged in DVC's cache ({size:,} bytes), moved to {set_aside(cache, name)}"
    if memory and largest is None:
        write_text(memory, str(started - _CLOCK_SECONDS))


def _is_news(cache: Path, name: str, since: float) -> bool:
    status = object_path(cache, name).stat()
    return status.st_ctime >= since or not status.st_size


def _read_time(memory: Path) -> float:
    try:
        return float(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0.0


def _links_to(damaged: Path) -> list[Path]:
    """Return the outputs in the working directory that are links to a file of the cache."""
    folders = (paths.DATASETS_DIR.parent, paths.OUTPUTS_DIR)
    files = (path for folder in folders for path in sorted(folder.rglob("*")))
    return [path for path in files if path.exists() and path.samefile(damaged)]


def object_path(cache: Path, name: str) -> Path:
    """Return the path of a file in the cache."""
    return cache / _OBJECTS / name[:2] / name[2:]


def damaged_links(cache: Path, files: Iterable[Path], largest: int | None = None) -> Iterator[Path]:
    """Yield the files that DVC has put there and that are not, or no more, what its cache has.

    Those are read-only, and their MD5 is the name of a file in the cache: of the very one they are links
    to. Files that anybody may write to are none of them; DVC itself reads these.
    """
    checked = [path for path in files if stat.S_IMODE(path.stat().st_mode) == _LINKED_MODE]
    with ThreadPoolExecutor(machine.num_cpus(), "cache-reader") as pool:
        intact = pool.map(lambda path: _is_linked(cache, path, largest), checked)
        yield from (path for path, good in zip(checked, intact, strict=True) if not good)


def set_link_aside(cache: Path, path: Path) -> Path | None:
    """Move the file of the cache that ``path`` is a link to out of DVC's sight; None if there is none."""
    names = (name for name in all_objects(cache) if path.samefile(object_path(cache, name)))
    found = next(names, None)
    return set_aside(cache, found) if found else None


def _is_linked(cache: Path, path: Path, largest: int | None) -> bool:
    with path.open("rb") as file:
        digest = _digest(file, largest)
        status = os.fstat(file.fileno())
    if digest is None:
        return True
    try:
        kept = object_path(cache, digest).stat()
    except FileNotFoundError:
        return False
    is_copy = status.st_nlink == 1 and not path.is_symlink()
    return is_copy or os.path.samestat(kept, status)


def _is_intact(path: Path, name: str, largest: int | None, flush: bool) -> bool:
    try:
        with path.open("rb") as file:
            digest = _digest(file, largest)
            if flush:
                os.fsync(file.fileno())
    except FileNotFoundError:
        return True
    return digest in (None, name.removesuffix(_FOLDER_MARK))


def _digest(file: BufferedReader, largest: int | None) -> str | None:
    """Return the MD5 of a file; None if it has more than ``largest`` bytes, and any."""
    size = os.fstat(file.fileno()).st_size
    if size and largest is not None and size > largest:
        return None
    return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
