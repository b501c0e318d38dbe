"""All archives of one published dataset, fetched or taken from where the user put them."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from components.core import machine, paths
from components.core.datasets import DATASETS, Dataset
from components.core.errors import InputError
from components.core.files import writing
from components.core.http import Patience, open_session
from components.sources.download.archives_on_disk import (
    ArchiveRecord,
    ArchivesRecord,
    require_room,
    write_record,
)
from components.sources.download.mirrors import Checked, Wanted, check_file, fetch_file, with_mirrors
from components.sources.download.unpack import unpacked_estimate


def fetch_dataset(
    dataset: str, mirrors: Sequence[str], connections: int, patience: Patience | None = None
) -> ArchivesRecord:
    """Have the archives in ``datasets/archives/<dataset>/``, with their record.

    They arrive in ``datasets/incoming/<dataset>/`` and move together when all are there and right; files
    that the user put there count as arrived. What already lies in the archives' folder is checked and kept.

    Args:
        dataset: one of ``DATASETS``.
        mirrors: folders on servers, tried before the official places.
        connections: at a time, for one file.
        patience: of the network.

    Raises:
        InputError: a file must be fetched by hand, no mirror gives one, one is wrong, or the disk is too
            full.
    """
    published = DATASETS[dataset]
    incoming, target = paths.INCOMING_DIR / dataset, paths.ARCHIVES_DIR / dataset
    wanted = {
        archive.name: Wanted(
            archive.name,
            with_mirrors(archive.urls, archive.name, mirrors),
            archive.size,
            archive.md5,
            archive.size or archive.unpacked_bytes,
        )
        for archive in published.archives
    }
    _require_by_hand(dataset, published, wanted, incoming, target)
    require_room(disk_needs(dataset))
    patience = patience or Patience()
    session = open_session(patience, token_urls=mirrors, connections=connections)
    checked: list[Checked] = [
        check_file(file, target / name)
        if (target / name).is_file()
        else fetch_file(file, incoming, session, connections, patience)
        for name, file in wanted.items()
    ]
    record = ArchivesRecord(
        archives={file.path.name: ArchiveRecord(size=file.size, sha256=file.sha256) for file in checked}
    )
    with writing(target) as temporary:
        temporary.mkdir()
        for file in checked:
            _link(file.path, temporary / file.path.name)
        write_record(temporary, record)
    shutil.rmtree(incoming, ignore_errors=True)
    return record


def _require_by_hand(
    dataset: str, published: Dataset, wanted: dict[str, Wanted], incoming: Path, target: Path
) -> None:
    absent = [
        file
        for file in wanted.values()
        if not file.urls and not (incoming / file.name).exists() and not (target / file.name).exists()
    ]
    if absent:
        files = "\n".join(f"  {file.name}   (MD5 {file.md5})" for file in absent)
        raise InputError(
            f"{dataset}: {published.licence}:\n{files}\nPut them into {os.path.abspath(incoming)} and run "
            f"`dvc repro download@{dataset}` again. If the images are unpacked on this disk already, name "
            f"their folder in params.yaml (download.folders.{dataset}) and take {dataset} out of "
            f"download.published. "
            f"A server of your own that has the files goes into download.mirrors.{dataset}"
        )


def disk_needs(dataset: str) -> list[tuple[Path, int, str]]:
    """Folders, bytes and words for what of the dataset is still to come, and for all of it unpacked."""
    incoming, target = paths.INCOMING_DIR / dataset, paths.ARCHIVES_DIR / dataset
    to_come = 0
    unpacked = 0
    for archive in DATASETS[dataset].archives:
        there = next((f for f in (target / archive.name, incoming / archive.name) if f.is_file()), None)
        if there is None:
            part = incoming / f"{archive.name}.part"
            arrived = part.stat().st_blocks * 512 if part.is_file() else 0  # it may have holes
            to_come += max((archive.size or archive.unpacked_bytes) - arrived, 0)
        unpacked += unpacked_estimate(there or incoming / archive.name, archive)
    if any(machine.unpacked_dir().glob(f"{dataset}-*")):
        unpacked = 0
    return [
        (incoming, to_come, f"{dataset}'s archives"),
        (machine.unpacked_dir(), unpacked, f"{dataset}, unpacked"),
    ]


def _link(source: Path, target: Path) -> None:
    """Give the file a second name; copy it where the disk knows no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
