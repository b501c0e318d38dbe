"""The archives of one dataset on this disk: their record, tracked with them by DVC, and room for them.

Room is asked for before a long job and not found missing after hours of it.
"""

import hashlib
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from components.core.errors import InputError
from components.core.files import write_text
from components.sources.progress import shown_bytes

RECORD_NAME = "archives.json"


class ArchiveRecord(BaseModel):
    """One archive: bytes and SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    size: int
    sha256: str


class ArchivesRecord(BaseModel):
    """All archives of a dataset, by file name; the same archives give the same bytes, whatever mirror."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal["virtex-archives"] = "virtex-archives"
    version: Literal[1] = 1
    archives: dict[str, ArchiveRecord]

    @property
    def key(self) -> str:
        """Short name of exactly these archives."""
        text = "".join(f"{name} {self.archives[name].sha256}\n" for name in sorted(self.archives))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_record(folder: Path, record: ArchivesRecord) -> None:
    """Write it, atomically."""
    write_text(folder / RECORD_NAME, record.model_dump_json(indent=2) + "\n")


def read_record(folder: Path) -> ArchivesRecord:
    """Read the record of the archives in ``folder``.

    Raises:
        InputError: they were never fetched or not pulled, or the record is broken.
    """
    path = folder / RECORD_NAME
    advice = f"run `dvc repro download@{folder.name}`, or `dvc pull download@{folder.name}` from a remote"
    if not path.is_file():
        raise InputError(f"{folder}: the archives of {folder.name} are not here; {advice}")
    try:
        return ArchivesRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(f"{path}: broken ({error.errors()[0]['msg']}); {advice}") from None


_SPARE_BYTES = 500 * 10**6  # left for everything else


def require_room(needs: Iterable[tuple[Path, int, str]]) -> None:
    """Check that the disks have room for all of this together.

    Args:
        needs: folders that may not exist yet, the bytes to be written there, and what they are.

    Raises:
        InputError: a disk is too full; says what needs how much.
    """
    by_disk: dict[int, list[tuple[Path, int, str]]] = defaultdict(list)
    for folder, num_bytes, what in needs:
        existing = existing_folder(folder)
        by_disk[os.stat(existing).st_dev].append((existing, num_bytes, what))
    for disk in by_disk.values():
        needed = sum(num_bytes for _, num_bytes, _ in disk)
        free = shutil.disk_usage(disk[0][0]).free
        if needed and free < needed + _SPARE_BYTES:
            parts = ", ".join(
                f"{shown_bytes(num_bytes)} of {what}" for _, num_bytes, what in disk if num_bytes
            )
            raise InputError(
                f"{disk[0][0]}: {shown_bytes(free)} are free on this disk, {shown_bytes(needed)} are needed "
                f"({parts}); free some, or make `datasets` a link to a larger disk"
            )


def existing_folder(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    folder = Path(os.path.abspath(folder))
    while not folder.exists():
        folder = folder.parent
    return folder
