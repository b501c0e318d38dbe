"""Files that a table names, whatever way their names are written."""

import os
import stat
import unicodedata
from functools import lru_cache
from pathlib import Path

Identity = tuple[int, int]

_REMEMBERED = 2**16


def identity_of(path: Path) -> Identity | None:
    """The same for all names, links among them, of one regular file; None where there is none."""
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
        """The file, its key and identity; where there is none, the path it should have, and None.

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
