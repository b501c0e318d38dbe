"""Archives to files, trusting them in nothing.

Only folders and plain files come out, with plain permissions, below the target and each once. A link
inside a tar archive becomes a copy when it names a file that came before it; symbolic links, devices,
absolute paths, ``..`` and more bytes than were allowed stop the unpacking.
"""

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from components.errors import InputError

_COPY_BYTES = 2**20
# zlib's and lzma's own errors are neither zipfile's, nor tarfile's, nor the system's.
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, lzma.LZMAError)

Advance = Callable[[int], None]


class _Budget:
    """Bytes that may still be written; archives declare what they hold, and readers stop there."""

    def __init__(self, archive: Path, allowed: int) -> None:
        self._archive = archive
        self._allowed = self._left = allowed

    def spend(self, num_bytes: int) -> None:
        """Raises InputError when it is more than is left."""
        self._left -= num_bytes
        if self._left < 0:
            raise InputError(
                f"{self._archive}: unpacks to more than the {self._allowed:,} bytes expected of it; "
                "it is not what it should be"
            )


def extract(
    archive: Path, target: Path, allowed_bytes: int, inner: bool = False, advance: Advance = lambda _: None
) -> None:
    """Unpack a zip or tar archive (plain, gzip, bzip2 or xz) below ``target``.

    Args:
        archive: told by its content, not by its name.
        target: a folder, made if it is absent.
        allowed_bytes: no more than this is written.
        inner: unpack each member, a tar archive, into a folder of its own name (as ImageNet's need).
        advance: called with the bytes of each file.

    Raises:
        InputError: not an archive, damaged, or it holds what must not be unpacked.
    """
    budget = _Budget(archive, allowed_bytes)
    try:
        if _begins_like_zip(archive):
            _extract_zip(archive, target, budget, advance)
            return
        with tarfile.open(archive) as tar:
            _extract_tar(archive, tar, target, budget, advance, inner)
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault and not the archive's
        raise InputError(f"{archive}: damaged, or not an archive ({error}); get it again") from None


def _begins_like_zip(archive: Path) -> bool:
    """Not zipfile.is_zipfile, which looks at the end, where a tar archive may hold a zip archive."""
    with archive.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _extract_zip(archive: Path, target: Path, budget: _Budget, advance: Advance) -> None:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or member.flag_bits & 1:
                what = "encrypted" if member.flag_bits & 1 else "a link or a device"
                raise InputError(f"{archive}: the member {member.filename!r} is {what}; refused")
            path = _inside(archive, target, member.filename)
            if member.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            budget.spend(member.file_size)
            with file.open(member) as source:
                _write(archive, source, path, advance)


def _extract_tar(
    archive: Path, tar: tarfile.TarFile, target: Path, budget: _Budget, advance: Advance, inner: bool
) -> None:
    for member, source in members_of(tar):
        path = _inside(archive, target, member.name)
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
        elif member.islnk():
            _copy_link(archive, member, path, _inside(archive, target, member.linkname), budget, advance)
        elif source is None:
            raise InputError(f"{archive}: the member {member.name!r} is a link or a device; refused")
        elif inner:
            with tarfile.open(fileobj=source) as nested:
                _extract_tar(archive, nested, path.with_suffix(""), budget, advance, inner=False)
        else:
            budget.spend(member.size)
            _write(archive, source, path, advance)


def _copy_link(
    archive: Path, member: tarfile.TarInfo, path: Path, linked: Path, budget: _Budget, advance: Advance
) -> None:
    if not linked.is_file():
        raise InputError(
            f"{archive}: the member {member.name!r} links to {member.linkname!r}, "
            "which did not come before it"
        )
    budget.spend(linked.stat().st_size)
    with linked.open("rb") as source:
        _write(archive, source, path, advance)


def _write(archive: Path, source: IO[bytes], path: Path, advance: Advance) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    except FileExistsError:
        raise InputError(f"{archive}: holds {path.name!r} twice in the same folder; refused") from None
    with os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(source, file, _COPY_BYTES)
        advance(file.tell())


def _inside(archive: Path, target: Path, name: str) -> Path:
    """The place of a member; nothing that is unpacked is a link, so the names alone decide."""
    written = PurePosixPath(name)
    if not name or "\0" in name or written.is_absolute() or ".." in written.parts:
        raise InputError(f"{archive}: the member {name!r} leads out of its folder; refused")
    return target / written


def members_of(tar: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Members in their order, with their bytes if they are plain files; no list of them grows in memory."""
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # next() appends to it, and nothing here looks back
        yield member, tar.extractfile(member) if member.isreg() else None
