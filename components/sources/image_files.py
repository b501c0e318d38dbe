"""Which files are images, and which only accompany them: one answer for every reader and command."""

import os
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath

from components.core.errors import InputError
from components.core.foreign_text import printable

Listing = Sequence[tuple[Path, list[str]]]  # folders and the names of their files, as `walk` yields them
DECODABLE = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".avif", ".bmp", ".dib", ".gif",
    ".tif", ".tiff", ".jp2", ".pbm", ".pgm", ".pnm", ".ppm",
)  # fmt: skip
# Images all the same, so that they are told of and not passed over.
UNDECODABLE = (".heic", ".heif", ".hif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf")
SUFFIXES = DECODABLE + UNDECODABLE

# Those of macOS's zip, Synology, QNAP and Windows; all others begin with a dot.
_COMPANIONS = {
    "__macosx", "@eadir", "@__thumb", "#recycle", "@recycle", "$recycle.bin", "system volume information",
    "thumbs.db", "ehthumbs.db", "desktop.ini",
}  # fmt: skip


def is_image(name: str) -> bool:
    """Return whether a file's name ends as an image's does, in whatever case."""
    return name.lower().endswith(SUFFIXES)


def is_companion(name: str) -> bool:
    """Return whether a file or folder is what a system lays beside people's files: hidden, or known."""
    return name.startswith(".") or name.lower() in _COMPANIONS


def has_companion(path: PurePath) -> bool:
    """Return whether a file, or any folder of its relative path, is a companion."""
    return any(is_companion(part) for part in path.parts if part != "..")


def is_utf8(name: str) -> bool:
    """Return whether a name has bytes of UTF-8 alone, which texts such as an index can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def folded(name: str) -> str:
    """Return what is equal for names that differ in case, or in Unicode's normal forms, alone."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def walk(
    root: Path, passed_over: Callable[[str, Path], None] = lambda reason, path: None
) -> Iterator[tuple[Path, list[str]]]:
    """Yield ``root`` and all folders below it, each once, with the sorted names of its files.

    Links to folders are followed after all real folders, so that a folder keeps its own name where it has
    one below ``root``; a loop ends where it began.

    Args:
        root: a folder.
        passed_over: called with a reason and the path of each companion, and of links to folders that
            were read before.

    Raises:
        InputError: a folder cannot be read.
    """
    seen = {_identity(folder) for folder in root.resolve().parents}
    waiting = deque([root])
    while waiting:
        top = waiting.popleft()
        if _identity(top) in seen:
            passed_over("links to folders that were read before", top)
            continue
        for folder, folders, names in os.walk(top, onerror=_refuse):
            if _identity(Path(folder)) in seen:
                folders.clear()
                continue
            seen.add(_identity(Path(folder)))
            for name in sorted({*folders, *names}):
                if is_companion(name):
                    passed_over("hidden or companion files and folders", Path(folder, name))
            folders[:] = sorted(name for name in folders if not is_companion(name))
            waiting.extend(Path(folder, name) for name in folders if Path(folder, name).is_symlink())
            yield Path(folder), sorted(name for name in names if not is_companion(name))


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _refuse(error: OSError) -> None:
    raise InputError(f"{printable(error.filename)}: cannot be read ({error.strerror})")
