"""archives.json: what the archives of one dataset are, beside them and tracked with them by DVC."""

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from components.core.errors import InputError
from components.core.files import write_text

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
