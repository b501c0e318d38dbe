"""All archives of one published dataset, fetched or taken from where the user put them.

Each comes from the first of its mirrors that gives it, whole and with the right checksum.
"""

import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import requests

from components.core import machine, paths
from components.core.datasets import DATASETS, Dataset
from components.core.errors import InputError, TemporaryError
from components.core.files import link_or_copy, writing
from components.core.foreign_text import said
from components.core.http import MirrorError, Patience, open_session
from components.core.redaction import redacted
from components.sources.download.archives_on_disk import (
    ArchiveRecord,
    ArchivesRecord,
    require_room,
    write_record,
)
from components.sources.download.remote import look_at
from components.sources.download.transfer import PIECE_BYTES, ChangedError, Transfer, state_path
from components.sources.download.unpack import unpacked_estimate
from components.sources.progress import Progress, shown_bytes

_HASH_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to have.

    Attributes:
        name: of the file.
        urls: where it may be, the preferred place first.
        size: bytes, or None where unknown.
        md5: in hexadecimal, or None where unknown.
        most_bytes: a larger one is another file; None is no bound.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    md5: str | None = None
    most_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """A file on this disk that is what was wanted; ``sha256`` in hexadecimal, ``size`` in bytes."""

    path: Path
    size: int
    sha256: str


def fetch_file(
    wanted: Wanted,
    folder: Path,
    session: requests.Session,
    connections: int = 4,
    patience: Patience | None = None,
    piece_bytes: int = PIECE_BYTES,
) -> Checked:
    """Have the file in ``folder``: check it if it is there, fetch it if not.

    Raises:
        InputError: the file there is another one.
        TemporaryError: no mirror gives it; names all reasons.
    """
    path, part = folder / wanted.name, folder / f"{wanted.name}.part"
    if path.exists():
        state_path(part).unlink(missing_ok=True)  # of one that was killed just when it was done
        return check_file(wanted, path)
    folder.mkdir(parents=True, exist_ok=True)
    patience = patience or Patience()
    refusals = []
    for url in wanted.urls:
        try:
            _fetch_from(url, wanted, part, session, connections, patience, piece_bytes)
            checked = _checked(wanted, part)
        except MirrorError as error:
            refusals.append(redacted(f"  {url}: {error}"))
            print(said(f"{wanted.name}: {url}: {error}"), flush=True)
            continue
        os.replace(part, path)
        state_path(part).unlink(missing_ok=True)
        return replace(checked, path=path)
    raise TemporaryError(
        f"{wanted.name}: no mirror gave it:\n" + "\n".join(refusals) + "\nStart again to go on where it "
        f"ended, add a mirror in params.yaml (download.mirrors), or put the file into {folder} yourself"
    )


def check_file(wanted: Wanted, path: Path) -> Checked:
    """Hold a file that somebody put there to its size and checksum.

    Raises:
        InputError: it is another one.
    """
    try:
        return _checked(wanted, path)
    except MirrorError as error:
        raise InputError(f"{path}: {error}; remove it or put the right one there") from None


def _fetch_from(
    url: str,
    wanted: Wanted,
    part: Path,
    session: requests.Session,
    connections: int,
    patience: Patience,
    piece_bytes: int,
) -> None:
    for attempt in (1, 2):
        remote = look_at(session, url, patience)
        if wanted.size is not None and remote.size not in (None, wanted.size):
            raise MirrorError(f"has a file of {remote.size:,} bytes, expected {wanted.size:,}")
        if remote.size and wanted.most_bytes is not None and remote.size > wanted.most_bytes:
            raise MirrorError(f"has a file of {remote.size:,} bytes, expected {wanted.most_bytes:,} at most")
        remote = replace(remote, size=remote.size or wanted.size)
        transfer = Transfer(session, remote, part, connections, patience, piece_bytes, wanted.most_bytes)
        if transfer.done_bytes:
            print(f"{wanted.name}: going on after {shown_bytes(transfer.done_bytes)}", flush=True)
        try:
            with Progress(wanted.name, remote.size, transfer.done_bytes) as progress:
                transfer.run(progress.advance)
            return
        except ChangedError:
            _remove(part)
            if attempt == 2:
                raise


def _checked(wanted: Wanted, path: Path) -> Checked:
    """Check size and checksum, or where nobody published one the archive's own; remove a wrong ``.part``."""
    try:
        size = path.stat().st_size
        if wanted.size is not None and size != wanted.size:
            raise MirrorError(f"has {size:,} bytes, expected {wanted.size:,}")
        sha256, md5 = _digests(path)
        if wanted.md5 is not None and md5 != wanted.md5:
            raise MirrorError(f"has the MD5 checksum {md5}, expected {wanted.md5}: other bytes")
        if wanted.md5 is None and wanted.name.endswith(".zip"):
            _require_whole_zip(path)
    except MirrorError:
        if path.suffix == ".part":
            _remove(path)
        raise
    return Checked(path, size, sha256)


def _digests(path: Path) -> tuple[str, str]:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_HASH_BYTES):
            sha256.update(block)
            md5.update(block)
    return sha256.hexdigest(), md5.hexdigest()


def _require_whole_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise MirrorError(f"is not a whole zip archive ({error})") from None
    if broken is not None:
        raise MirrorError(f"is a zip archive whose member {broken} is damaged")


def _remove(part: Path) -> None:
    part.unlink(missing_ok=True)
    state_path(part).unlink(missing_ok=True)


def with_mirrors(urls: Sequence[str], name: str, mirrors: Sequence[str]) -> tuple[str, ...]:
    """Return the user's mirrors (folders that hold the file under its name) before the official places."""
    return (*(f"{mirror.rstrip('/')}/{name}" for mirror in mirrors), *urls)


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
            link_or_copy(file.path, temporary / file.path.name)
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
    """Return folders, bytes and words for what of a dataset is still to come, and for all of it unpacked."""
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
