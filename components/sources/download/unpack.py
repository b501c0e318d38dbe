"""The unpacked archives: files that neither git nor DVC knows, made again whenever they are missing.

``datasets/unpacked/<dataset>-<key>/``, the key being that of the archives, so that the files there are
always those of the archives on record; several workspaces may share the folder (VIRTEX_UNPACKED_DIR).

What was unpacked is held against the published counts: the last check on an archive, and on our facts.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.core import machine, paths
from components.core.datasets import DATASETS, Archive
from components.core.errors import InputError
from components.sources.download.archives_on_disk import read_record, require_room
from components.sources.download.arrange import ARRANGE
from components.sources.download.extract import extract
from components.sources.progress import Progress


def unpack_dataset(dataset: str) -> Path:
    """Return the folder of a dataset's files, unpacked now if they are not there.

    Raises:
        InputError: its archives are missing, damaged or refused, or the disk is too full.
    """
    archives_dir = paths.ARCHIVES_DIR / dataset
    return _unpacked(dataset, f"{dataset}-{read_record(archives_dir).key}", archives_dir)


def require_unpacked(name: str) -> Path:
    """Return the folder of this ``<dataset>-<key>``, as a manifest names it, unpacked now if it is not there.

    Raises:
        InputError: as :func:`unpack_dataset`, or the archives here are others by now.
    """
    target = machine.unpacked_dir() / name
    if target.is_dir():
        return target
    dataset = name.rpartition("-")[0]
    archives_dir = paths.ARCHIVES_DIR / dataset
    found = f"{dataset}-{read_record(archives_dir).key}"
    if found != name:
        raise InputError(
            f"{archives_dir}: these archives are not those that the datasets stage saw; run "
            f"`dvc repro datasets`, or `dvc checkout download@{dataset}`"
        )
    return _unpacked(dataset, name, archives_dir)


def _unpacked(dataset: str, name: str, archives_dir: Path) -> Path:
    target = machine.unpacked_dir() / name
    if target.is_dir():
        return target
    with _alone(target):
        if not target.is_dir():  # another process may have made it meanwhile
            _unpack(dataset, archives_dir, target)
    return target


def _unpack(dataset: str, archives_dir: Path, target: Path) -> None:
    published = DATASETS[dataset]
    absent = [archive.name for archive in published.archives if not (archives_dir / archive.name).is_file()]
    if absent:
        raise InputError(
            f"{archives_dir}: {', '.join(absent)} not here; run `dvc repro download@{dataset}`, or "
            f"`dvc pull download@{dataset}` from a remote"
        )
    partial = target.parent / f".{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    needed = sum(unpacked_estimate(archives_dir / archive.name, archive) for archive in published.archives)
    require_room([(target.parent, needed, f"{dataset}, unpacked")])
    try:
        with Progress(f"unpacking {dataset}", None) as progress:
            for archive in published.archives:
                extract(
                    archives_dir / archive.name,
                    partial / archive.into,
                    archive.unpacked_bytes,
                    archive.inner,
                    progress.advance,
                )
        if dataset in ARRANGE:
            ARRANGE[dataset](partial)
        os.sync()  # one call instead of one for each of 100,000 files
        os.replace(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def unpacked_estimate(path: Path, archive: Archive) -> int:
    """Bytes to expect: photographs hardly shrink in an archive, texts do, and no more than is allowed."""
    factor = 6 if archive.into == "annotations" or "annotations" in archive.name else 1.1
    size = path.stat().st_size if path.is_file() else archive.size or archive.unpacked_bytes
    return min(round(size * factor), archive.unpacked_bytes)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """One process at a time; the lock is the system's, so a dead process holds nothing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{target.name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def require_counts(dataset: str, figures: Mapping[str, Any]) -> None:
    """Compare a dataset's figures with its published counts.

    Args:
        dataset: one of ``DATASETS``.
        figures: counts by split, as the readers give them; objects may be counted by class.

    Raises:
        InputError: they differ; names all differences.
    """
    faults = []
    for split, expected in DATASETS[dataset].counts.items():
        for what, number in expected.items():
            found = figures.get(split, {}).get(what, 0)
            found = sum(found.values()) if isinstance(found, Mapping) else found
            if found != number:
                faults.append(f"{split} has {found:,} {what}, expected {number:,}")
    if faults:
        raise InputError(
            f"download@{dataset}: {'; '.join(faults)}. The archives are not what was published: remove "
            f"datasets/archives/{dataset} and run `dvc repro -f download@{dataset}`"
        )
