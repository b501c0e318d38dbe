"""Entries of dvc.lock, which say what a stage was made from and what it made."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from components.params.reading import load_yaml
from pipelines.graph import locked_repository

LOCK_FILE = Path("dvc.lock")


def read_entries(root: Path, stages: Collection[str]) -> dict[str, Any]:
    """The entries of ``stages``, of those that have one, as plain values."""
    path = root / LOCK_FILE
    found = (load_yaml(path).get("stages") or {}) if path.is_file() else {}
    return {name: entry for name, entry in found.items() if name in stages}


def put_entries(root: Path, entries: Mapping[str, Any], stages: Collection[str]) -> None:
    """Make ``entries`` the entries of ``stages``; a stage without one has none afterwards. Others stay."""
    from dvc.utils.serialize import modify_yaml

    with locked_repository(root) as repo:
        if read_entries(root, stages) == dict(entries):
            return
        with modify_yaml(str(root / LOCK_FILE), fs=repo.fs) as tree:
            tree.setdefault("schema", "2.0")
            written = tree.setdefault("stages", {})
            for name in stages:
                if name in entries:
                    written[name] = entries[name]
                else:
                    written.pop(name, None)
