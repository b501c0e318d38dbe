"""Where the bytes of an image are: a file that a table names, a URL to fetch, or an archive of our own.

Images without a file of their own (from URLs, or inside tables) are laid into one archive that DVC can track.
"""

import io
import os
import shutil
import stat
import tarfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import IO

from components.core import paths
from components.core.errors import InputError
from components.sources.download.images import fetch_images, fetched_path
from components.sources.image_files import is_image
from components.sources.readers.own.sample import OwnImage
from components.sources.readers.types import ArchiveMember

Identity = tuple[int, int]

_REMEMBERED = 2**16


def identity_of(path: Path) -> Identity | None:
    """Return the same for all names, links among them, of one regular file; None where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


class NamedFiles:
    """Files by names relative to ``folder``, a folder of the dataset whose own one is ``root``.

    Names may have Windows' backslashes, spaces around them, or another of Unicode's normal forms than
    the disk has (macOS writes NFD); a file of exactly the name comes first.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = folder
        self._root = os.path.join(os.path.abspath(root), "")
        # An image's rows lie together, more often than not.
        self.find = lru_cache(_REMEMBERED)(self._find)
        self._normal: dict[Path, dict[str, str]] = {}

    def _find(self, name: str) -> tuple[Path, str, Identity | None]:
        """Return the file, its key and identity; where there is none, the path it should have, and None.

        The key is the path relative to the root, equal for ``./a`` and ``a``; absolute if it is not below.
        """
        path, identity = self._located(name)
        absolute = os.path.abspath(path)
        return path, absolute.removeprefix(self._root), identity

    def _located(self, name: str) -> tuple[Path, Identity | None]:
        written = self._folder / name
        stripped = name.strip()
        for candidate in dict.fromkeys((name, stripped, stripped.replace("\\", "/"))):
            path = self._folder / candidate
            if (identity := identity_of(path)) is not None:
                return path, identity
            if not candidate.isascii() and (identity := identity_of(path := self._in_normal_form(path))):
                return path, identity
        return written, None

    def _in_normal_form(self, path: Path) -> Path:
        if path.parent == path:
            return path
        parent = path.parent if os.path.isdir(path.parent) else self._in_normal_form(path.parent)
        if parent not in self._normal:
            try:
                names = sorted(os.listdir(parent))
            except (OSError, ValueError):
                names = []
            self._normal[parent] = {unicodedata.normalize("NFC", name): name for name in names}
        return parent / self._normal[parent].get(unicodedata.normalize("NFC", path.name), path.name)


class PackedImages:
    """Context that writes images, one after the other; there is no archive without any.

    Equal images give equal bytes: names by order, no times, no owners.

    Args:
        archive: an uncompressed tar archive.
    """

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self._tar: tarfile.TarFile | None = None
        self._number = 0

    def __enter__(self) -> "PackedImages":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tar is not None:
            self._tar.close()

    def add(self, content: bytes, named: str = "") -> ArchiveMember:
        """Append an image; of its name only the ending is kept."""
        return self.copy(io.BytesIO(content), len(content), named)

    def copy(self, source: IO[bytes], size: int, named: str = "") -> ArchiveMember:
        """Append ``size`` bytes of ``source``."""
        if self._tar is None:
            self.archive.parent.mkdir(parents=True, exist_ok=True)
            self._tar = tarfile.open(self.archive, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        suffix = Path(named).suffix.lower()
        info = tarfile.TarInfo(f"{self._number:08}{suffix if is_image(suffix) else ''}")
        info.size = size
        # In this format, and with names this short, a header is one block.
        member = ArchiveMember(info.name, self._tar.offset + tarfile.BLOCKSIZE, size)
        self._tar.addfile(info, source)
        self._number += 1
        return member


ARCHIVE_NAME = "fetched.tar"
_NUM_NAMED = 3


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An image that a table names and nobody could get: its place in the table, and the reason."""

    where: str
    image: str
    reason: str


def fetch_urls(
    images: Sequence[OwnImage], dataset: str, folder: Path, connections: int, skip: bool
) -> tuple[list[OwnImage], list[LeftOut]]:
    """Give every image that is a URL its place in ``folder``/fetched.tar; the others stay as they are.

    What has been fetched stays in datasets/incoming until the archive is whole, so that an interrupted
    call, or one that refused, goes on where it ended.

    Args:
        images: of one dataset.
        dataset: its name.
        folder: where the archive goes.
        connections: at a time.
        skip: leave out what cannot be fetched, rather than to refuse.

    Raises:
        InputError: images could not be fetched and are refused, or not one could.
    """
    urls = [image.url for image in images if image.url is not None]
    if not urls:
        return list(images), []
    incoming = paths.INCOMING_DIR / "images" / dataset
    failures = fetch_images(urls, incoming, connections)
    left_out = [LeftOut(i.where, i.key, failures[i.url]) for i in images if i.url in failures]
    share = 100 * len(left_out) / len(urls)
    print(
        f"{dataset}: {len(urls) - len(left_out):,} of {len(urls):,} URLs fetched, {share:.1f} % failed",
        flush=True,
    )
    if left_out and (not skip or len(left_out) == len(urls)):
        raise InputError(_refusal(left_out, len(urls)))
    kept = [image for image in images if image.url not in failures]
    with PackedImages(folder / ARCHIVE_NAME) as packed:
        for image in kept:
            if image.url is not None:
                path = fetched_path(incoming, image.url)
                with path.open("rb") as file:
                    image.member = packed.copy(file, path.stat().st_size, image.url.partition("?")[0])
                image.path = packed.archive
    return kept, left_out


def forget_fetched(dataset: str) -> None:
    """Remove the loose files, once their archive is where it belongs."""
    shutil.rmtree(paths.INCOMING_DIR / "images" / dataset, ignore_errors=True)


def _refusal(left_out: Sequence[LeftOut], num_urls: int) -> str:
    named = "\n".join(f"  {one.where}: {one.image}: {one.reason}" for one in left_out[:_NUM_NAMED])
    more = "\n  ..." if len(left_out) > _NUM_NAMED else ""
    return (
        f"{len(left_out)} of {num_urls} images could not be fetched:\n{named}{more}\nStart again to go on "
        "with the rest, correct the table, or set lmdb.on_unreadable to skip to leave such images out"
    )
