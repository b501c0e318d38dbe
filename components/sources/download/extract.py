"""Archives to files, trusting them in nothing.

Only folders and plain files come out, with plain permissions, below the target and each once. A link
inside a tar archive becomes a copy when it names a file that came before it; symbolic links, devices,
absolute paths, ``..``, names that no disk takes, a file and a folder of one name, headers that would fill the
memory and more bytes than were allowed stop the unpacking.
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

from components.core.errors import InputError

_COPY_BYTES = 2**20
# zlib's and lzma's own errors are neither zipfile's, nor tarfile's, nor the system's.
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, lzma.LZMAError)

# Records that tarfile reads as a whole: longer names, and keys and values for the next member or for all.
_RECORDS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
_LARGEST_RECORD = 2**20  # bytes
_LARGEST_DIRECTORY = 2**27  # bytes, of a zip archive; COCO's 118,287 images have about 12 MB
_ZIP_TAIL_BYTES = 2**16 + 200  # a comment of the largest size, and the records before it
_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # bytes, on Linux
_SHOWN = 100  # characters of a name, in a message

Advance = Callable[[int], None]


class Header(tarfile.TarInfo):
    """A member's header: no damaged one, which tarfile would take for the end, and none with long records."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "Header":
        """Read as tarfile does.

        Raises:
            tarfile.EOFHeaderError: it is the mark of the end.
            tarfile.ReadError: it is damaged or cut off, or announces a record of names that is too large, or
                a file with holes.
        """
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # public, and in no stub
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"a header, or the mark of the end, is damaged: {error}") from None
        if header.type in _RECORDS and not 0 <= header.size <= _LARGEST_RECORD:
            raise tarfile.ReadError(f"a header record of {header.size:,} bytes")
        if header.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("a file with holes")
        return header


class _Budget:
    """Bytes that may still be written; archives declare what they hold, and readers stop there."""

    def __init__(self, archive: Path, allowed: int) -> None:
        self._archive = archive
        self._allowed = self._left = allowed

    def spend(self, num_bytes: int) -> None:
        """Take from what is left; raise InputError when it is too little."""
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
        InputError: not an archive, damaged, without files, or it holds what must not be unpacked.
    """
    budget, num_files = _Budget(archive, allowed_bytes), 0

    def advance_by(num_bytes: int) -> None:
        nonlocal num_files
        num_files += 1
        advance(num_bytes)

    if not archive.is_file():
        raise InputError(f"{archive}: no such file; get it again")
    try:
        if _begins_like_zip(archive):
            _extract_zip(archive, target, budget, advance_by)
        else:
            with tarfile.open(archive, tarinfo=Header) as tar:
                _extract_tar(archive, tar, target, budget, advance_by, inner)
                read_to_end(tar)
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault and not the archive's
        raise InputError(f"{archive}: damaged, or not an archive ({error}); get it again") from None
    if not num_files:
        raise InputError(f"{archive}: holds no file; get it again")


def _begins_like_zip(archive: Path) -> bool:
    """Look at the beginning: zipfile.is_zipfile looks at the end, where a tar archive may hold a zip."""
    with archive.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _extract_zip(archive: Path, target: Path, budget: _Budget, advance: Advance) -> None:
    _require_small_directory(archive)
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or member.flag_bits & 1:
                what = "encrypted" if member.flag_bits & 1 else "a link or a device"
                raise InputError(f"{archive}: the member {member.filename!r} is {what}; refused")
            path = _inside(archive, target, member.filename)
            if member.is_dir():
                _make_folder(archive, path)
                continue
            budget.spend(member.file_size)
            with file.open(member) as source:
                _write(archive, source, path, advance)


def _require_small_directory(archive: Path) -> None:
    """Refuse a zip archive with a large directory, which zipfile reads as a whole.

    Raises:
        InputError: it is too large.
    """
    with archive.open("rb") as file:
        file.seek(0, os.SEEK_END)
        end = file.tell()
        file.seek(max(0, end - _ZIP_TAIL_BYTES))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 20:
        return  # zipfile says what is wrong with it
    size = int.from_bytes(tail[at + 12 : at + 16], "little")
    wide = tail.rfind(b"PK\x06\x06", 0, at)
    if size == 0xFFFFFFFF and wide >= 0:
        size = int.from_bytes(tail[wide + 40 : wide + 48], "little")
    if min(size, end) > _LARGEST_DIRECTORY:
        raise InputError(f"{archive}: its directory alone has {size:,} bytes; refused")


def _extract_tar(
    archive: Path, tar: tarfile.TarFile, target: Path, budget: _Budget, advance: Advance, inner: bool
) -> None:
    for member, source in members_of(tar):
        path = _inside(archive, target, member.name)
        if member.isdir():
            _make_folder(archive, path)
        elif member.islnk():
            _copy_link(archive, member, path, _inside(archive, target, member.linkname), budget, advance)
        elif source is None:
            raise InputError(f"{archive}: the member {member.name!r} is a link or a device; refused")
        elif inner:
            with tarfile.open(fileobj=source, tarinfo=Header) as nested:
                _extract_tar(archive, nested, path.with_suffix(""), budget, advance, inner=False)
        else:
            budget.spend(member.size)
            _write(archive, source, path, advance)


def read_to_end(tar: tarfile.TarFile) -> None:
    """Read what follows the last member: padding, and the checksum of a compressed archive.

    Raises:
        tarfile.ReadError: something follows, or more zeros than fill up a record, which are lost blocks.
    """
    assert tar.fileobj is not None
    size = tar.offset + tarfile.BLOCKSIZE  # the mark's first block, which was read
    while block := tar.fileobj.read(_COPY_BYTES):
        if any(block):
            raise tarfile.ReadError(
                f"something follows its end, from byte {tar.offset:,} on; if it is several archives one "
                "behind the other, keep them apart"
            )
        size += len(block)
    records = -(-(tar.offset + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE)
    if size > records * tarfile.RECORDSIZE:
        raise tarfile.ReadError(f"{size - tar.offset:,} zeros from byte {tar.offset:,} on are no padding")


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
    _make_folder(archive, path.parent)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    except FileExistsError:
        raise InputError(f"{archive}: holds {path.name!r} twice in the same folder; refused") from None
    with os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(source, file, _COPY_BYTES)
        advance(file.tell())


def _make_folder(archive: Path, path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        taken = next(place.name for place in (path, *path.parents) if place.is_file())
        raise InputError(f"{archive}: holds a file and a folder of one name ({taken!r}); refused") from None


def _inside(archive: Path, target: Path, name: str) -> Path:
    """Return the place of a member; nothing that is unpacked is a link, so the names alone decide."""
    written = PurePosixPath(name)
    shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
    if not name or "\0" in name or written.is_absolute() or ".." in written.parts:
        raise InputError(f"{archive}: the member {shown!r} leads out of its folder; refused")
    path = target / written
    longest = max((len(os.fsencode(part)) for part in written.parts), default=0)
    if longest > _LONGEST_NAME or len(os.fsencode(path.absolute())) > _LONGEST_PATH:
        raise InputError(
            f"{archive}: the member {shown!r} has a longer name than files may have "
            f"({_LONGEST_NAME} bytes, {_LONGEST_PATH} with its folders); refused"
        )
    return path


def members_of(tar: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Yield members in order, with their bytes if they are plain files; no list of them grows in memory."""
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # next() appends to it, and nothing here looks back
        yield member, tar.extractfile(member) if member.isreg() else None
