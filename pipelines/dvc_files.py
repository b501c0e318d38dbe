"""The files that DVC and this project both read: what a stage's entry in dvc.lock says, and what is damaged.

DVC names a damaged file with no word about what to do, or not at all.
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.core.files import parse_json
from components.params.yaml_files import load_yaml, may_be_deep

LOCK_FILE = Path("dvc.lock")
RWLOCK = Path(".dvc/tmp/rwlock")  # files in use by DVC at work
_RESTORE = "`git checkout dvc.lock`, or remove it: what was made is then found in DVC's cache"


def read_entries(root: Path, stages: Collection[str]) -> dict[str, Any]:
    """Return the entries of ``stages``, of those that have one, as plain values."""
    path = root / LOCK_FILE
    found = _stages(load_yaml(path), path) if path.is_file() else {}
    return {name: entry for name, entry in found.items() if name in stages}


def check_files(root: Path) -> None:
    """Say better than DVC what is wrong with the files that it reads, if anything is.

    Raises:
        InputError: names the file, the line, and what to do.
    """
    load_yaml(root / "dvc.yaml")
    lock = root / LOCK_FILE
    if os.path.lexists(lock):
        try:
            _stages(load_yaml(lock), lock)
        except InputError as error:
            raise InputError(f"{error}; {_RESTORE}") from None
    if is_rwlock_damaged(root):
        raise InputError(f"{root / RWLOCK}: damaged; remove it once no DVC command is at work here")


def check_deep_files(root: Path) -> None:
    """Check the files before DVC reads them, if one may end this process: DVC's parser, in C, has no limit.

    Raises:
        InputError: as ``check_files``.
    """
    found = [path for path in (root / "dvc.yaml", root / LOCK_FILE) if path.is_file()]
    if any(may_be_deep(path.read_text(encoding="utf-8", errors="replace")) for path in found):
        check_files(root)


def is_rwlock_damaged(root: Path) -> bool:
    """Return whether DVC's list of files in use is half-written, by a killed DVC or by one at work."""
    try:
        parse_json((root / RWLOCK).read_bytes())
    except ValueError:
        return True
    except OSError:  # there is none
        return False
    return False


def _stages(tree: Mapping[str, Any], path: Path) -> dict[str, Any]:
    stages = tree.get("stages") or {}
    if "schema" not in tree or not isinstance(stages, dict):
        raise InputError(f"{path}: not as DVC writes it (`schema`, and `stages` by name)")
    for name, entry in stages.items():
        if not isinstance(entry, dict) or "cmd" not in entry:
            raise InputError(f"{path}: the entry of `{name}` is not as DVC writes it")
    return stages
