"""Room on the disk, asked for before a long job and not found missing after hours of it."""

import os
import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from components.core.errors import InputError
from components.sources.progress import shown_bytes

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
    """The folder, or the nearest one above it that exists."""
    folder = Path(os.path.abspath(folder))
    while not folder.exists():
        folder = folder.parent
    return folder
