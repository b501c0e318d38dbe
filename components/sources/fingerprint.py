"""Whether the data below ``download.folders`` have been touched, without reading them.

Of each file there the size, the times and the inode count (components.sources.contents.stamp), so that any
replacement is noticed; a file that was touched and has the same contents costs a run of the stage
``datasets``, which compares contents, and no other.

A table names images that may lie anywhere. Which they are, and how they were, the stage ``datasets`` notes
when it reads them (``write_named``): as long as they are as noted, the entry before counts.
"""

import glob
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from components import params
from components.core import paths
from components.core.files import read_json_object, write_text
from components.sources.contents import stamp
from components.sources.manifest import Manifest, resolved_path
from components.sources.readers.own.index import index_path, read_index

NAMED_IMAGES = paths.OUTPUTS_DIR / "datasets" / "named_images.json"
_MADE_HERE = (paths.DATASETS_DIR.parent, paths.OUTPUTS_DIR, Path("mlartifacts"))  # change with every run

Entry = dict[str, Any]


def fingerprint(download: params.Download) -> str:
    """Return what ``data/sources.json`` should hold: JSON, an entry by key of ``download.folders``.

    Costs some microseconds a file on a local disk.
    """
    before = read_json_object(paths.DATA_SOURCES)
    named = read_json_object(NAMED_IMAGES)
    entries = {
        key: _entry(path, before.get(key, {}), named.get(key)) for key, path in source_paths(download).items()
    }
    return json.dumps(entries, indent=2) + "\n"


def changed_sources(download: params.Download) -> list[str]:
    """Return the keys of params.yaml whose data are not as the stage ``sources`` has seen them."""
    before, now = read_json_object(paths.DATA_SOURCES), json.loads(fingerprint(download))
    return [f"download.folders.{key}" for key in {**before, **now} if before.get(key) != now.get(key)]


def source_paths(download: params.Download) -> dict[str, Path]:
    """Return folders, tables and patterns of data on this disk, by key below ``download.folders``."""
    if download.source == "drawn_world":
        return {}
    folders = download.folders
    found = {f"captions.{name}": path for name, path in folders.captions.items()} | folders.benchmarks
    return {
        key: Path(os.path.expanduser(path)) for key, path in found.items() if not params.is_on_server(path)
    }


def write_named(download: params.Download, manifest: Manifest) -> None:
    """Note the images of one's own that do not lie below the folder that ``download`` names.

    Args:
        download: the section of params.yaml.
        manifest: of data/datasets as it now is, with its indices.
    """
    noted: dict[str, Entry] = {}
    for key, path in source_paths(download).items():
        entry = manifest.captions.get(key.removeprefix("captions."))
        if not key.startswith("captions.") or entry is None or entry.index is None:
            continue
        folder, root = Path(entry.index), resolved_path(entry.root)
        images = (
            image.path
            for split in sorted(entry.images)
            if index_path(folder, split).is_file()
            for image in read_index(folder, split, root, key)
            if image.member is None
        )
        # Tables have no folder that would be looked through; what was fetched is in the index's.
        known = [os.path.abspath(folder), *([os.path.abspath(path)] if path.is_dir() else [])]
        files = {os.path.abspath(image) for image in images}
        names = sorted(file for file in files if not any(map(Path(file).is_relative_to, known)))
        noted[key] = {"digest": _digest(names), "files": names}
    write_text(NAMED_IMAGES, json.dumps(noted, indent=1) + "\n")


def _entry(path: Path, before: Entry, named: Entry | None) -> Entry:
    digest, count, size = hashlib.sha256(), 0, 0
    for name, status in _files(path):
        digest.update(os.fsencode(f"{name} {stamp(status) if status else 'unreadable'}\n"))
        count += 1
        size += status.st_size if status else 0
    elsewhere = None
    if named is not None:
        now = _digest(named["files"])
        elsewhere = before.get("elsewhere") if now == named["digest"] else now
    return {"files": count, "bytes": size, "digest": digest.hexdigest(), "elsewhere": elsewhere}


def _files(path: Path) -> Iterator[tuple[str, os.stat_result | None]]:
    """Yield names and states of the files in a folder and below, of a file, or of what matches a pattern."""
    if path.is_dir():
        yield from _below(os.path.abspath(path))
        return
    for found in sorted(glob.glob(str(path))) if not path.is_file() else [str(path)]:
        yield os.path.basename(found), _status(found)


def _below(root: str) -> Iterator[tuple[str, os.stat_result | None]]:
    """Follow links, each folder once; pass over hidden folders and what a run of this repository makes."""
    seen = {os.path.realpath(folder) for folder in _MADE_HERE}
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError:
            yield os.path.relpath(folder, root), None
            continue
        for entry in entries:
            if not entry.is_dir():
                yield os.path.relpath(entry.path, root), _status(entry)
            elif not entry.name.startswith(".") and (real := os.path.realpath(entry.path)) not in seen:
                seen.add(real)
                waiting.append(entry.path)


def _status(file: "str | os.DirEntry[str]") -> os.stat_result | None:
    try:
        return os.stat(file) if isinstance(file, str) else file.stat()
    except OSError:
        return None


def _digest(names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        status = _status(name)
        digest.update(os.fsencode(f"{name} {stamp(status) if status else 'unreadable'}\n"))
    return digest.hexdigest()
