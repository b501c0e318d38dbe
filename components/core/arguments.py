"""Types of command-line arguments."""

import argparse
from pathlib import Path


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def folder(text: str) -> Path:
    """A folder to write into, which may have to be made first."""
    path = Path(text)
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise argparse.ArgumentTypeError(f"{place} is a file; expected a folder, there already or new")
    return path


def writable(text: str) -> Path:
    """A file or folder to write, whose folder may have to be made first."""
    folder(str(Path(text).parent))
    return Path(text)
