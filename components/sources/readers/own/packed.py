"""Images without a file of their own (from URLs, or inside tables), in an archive that DVC can track."""

import io
import tarfile
from pathlib import Path
from types import TracebackType
from typing import IO

from components.core.image_files import is_image
from components.sources.readers.types import ArchiveMember


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
