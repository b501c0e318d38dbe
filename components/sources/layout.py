"""What all readers do alike: checks with hints for what is usually wrong, and a tally of what is left out."""

import difflib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from components.core.errors import InputError
from components.core.foreign_text import printable
from components.sources.image_files import is_utf8

NUM_NAMED = 3  # absent files named in an error; the rest are counted


def require_folder(path: Path, holds: str) -> Path:
    """Return ``path`` if it is a folder.

    Args:
        path: the folder.
        holds: what it should contain, for the message.

    Raises:
        InputError: it is missing (with the nearest name beside it) or is a file; names the absolute path.
    """
    if path.is_dir():
        return path
    path = Path(os.path.abspath(path))
    fault = "is not a folder" if path.exists() else f"no such folder{_hint(path)}"
    raise InputError(f"{path}: {fault}; expected {holds}")


def require_file(path: Path, holds: str) -> Path:
    """Return ``path`` if it is a file; see :func:`require_folder`."""
    if path.is_file():
        return path
    path = Path(os.path.abspath(path))
    fault = "is not a file" if path.exists() else f"no such file{_hint(path)}"
    raise InputError(f"{path}: {fault}; expected {holds}")


def read_text(path: Path, holds: str) -> str:
    """Return the text of a UTF-8 file without the mark (BOM) it may begin with; see :func:`require_folder`.

    Raises:
        InputError: it is missing or not UTF-8.
    """
    try:
        return require_file(path, holds).read_text(encoding="utf-8-sig")  # Windows programs begin with a BOM
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: not UTF-8 text; expected {holds}. Unpack it first if it is an archive"
        ) from None


def without_halves(text: str) -> str:
    """Return the text without lone surrogates: halves of characters, which JSON can hold and UTF-8 cannot."""
    return text if text.isascii() else text.encode("utf-8", "ignore").decode()


def _hint(path: Path) -> str:
    return "; this is a link that leads nowhere" if path.is_symlink() else nearest_entry(path)


def nearest_entry(path: Path) -> str:
    """Return a hint naming what lies beside ``path`` under a similar name, or its first missing parent."""
    if not path.parent.is_dir():
        missing = path.parent
        while not missing.parent.is_dir():
            missing = missing.parent
        return f" (the folder {missing} is missing too{nearest_entry(missing)})"
    entries = sorted(entry.name for entry in os.scandir(path.parent))
    close = difflib.get_close_matches(path.name, entries, n=1, cutoff=0.7)
    return f" (did you mean {path.parent / close[0]}?)" if close else ""


def read_annotations(path: Path, lists: Iterable[str]) -> dict[str, Any]:
    """Parse an annotation file whose top level is a mapping that has at least these lists of records.

    Raises:
        InputError: missing file, broken, truncated or overly deep JSON, a list missing or not of records.
    """
    text = read_text(path, "an annotation file in JSON")
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InputError(
            f"{path}: broken JSON at {where} ({error.msg}); is it cut short? Get it again"
        ) from None
    except RecursionError:
        raise InputError(f"{path}: JSON nested too deeply; expected an annotation file") from None
    except ValueError as error:  # a number of thousands of digits
        raise InputError(f"{path}: unusable JSON ({error}); expected an annotation file") from None
    for key in lists:
        records = parsed.get(key) if isinstance(parsed, dict) else None
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise InputError(f"{path}: expected a list of records under the key `{key}`")
    return parsed


def unique_ids(path: Path, records: list[dict[str, Any]], kind: str) -> dict[Any, dict[str, Any]]:
    """Return records by their ``id``, in file order.

    Raises:
        InputError: a record without an id (all whole numbers, or all text), or an id given twice.
    """
    by_id: dict[Any, dict[str, Any]] = {}
    for record in records:
        key = record.get("id")
        if not isinstance(key, int | str) or (by_id and type(key) is not type(next(iter(by_id)))):
            raise InputError(f"{path}: a record in `{kind}` has no `id` like the others': {shown(record)}")
        if key in by_id:
            raise InputError(f"{path}: the id {key!r} occurs twice in `{kind}`")
        by_id[key] = record
    return by_id


def category_name(category: Mapping[str, Any]) -> str:
    """Return a category's name as files take it, its id where it has none."""
    return without_halves(str(category.get("name") or "")) or str(category["id"])


def require_utf8(path: Path) -> Path:
    """Return the path, whose last name is to stand in texts.

    Raises:
        InputError: it has bytes that are not UTF-8.
    """
    if not is_utf8(path.name):
        raise InputError(f"{printable(path)}: its name is not UTF-8; rename it")
    return path


def is_known(key: object, by_id: Mapping[Any, object]) -> bool:
    """Return whether ``key``, of whatever type a broken file holds, is one of the ids."""
    return isinstance(key, int | str) and key in by_id


def file_name(path: Path, image: dict[str, Any]) -> str:
    """Return an image record's ``file_name``, which must stay inside its folder.

    Raises:
        InputError: it is missing, absolute or climbs out with ``..``.
    """
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        raise InputError(f"{path}: an image has no `file_name`: {shown(image)}")
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise InputError(f"{path}: the file name {name!r} leads out of the dataset's folder")
    return name


def require_images(root: Path, names: Iterable[str], listed_in: Path, what: str = "images") -> None:
    """Check that every listed image, or ``what`` it is, lies below ``root``; each folder is read once.

    Raises:
        InputError: images are absent; the first are named and all are counted.
    """
    wanted: dict[str, list[str]] = defaultdict(list)
    for name in names:
        folder, _, base = name.rpartition("/")
        wanted[folder].append(base)
    total = sum(map(len, wanted.values()))
    absent: list[Path] = []
    for folder in wanted:
        present = set(os.listdir(root / folder)) if (root / folder).is_dir() else set()
        absent.extend(root / folder / base for base in wanted[folder] if base not in present)
    if absent:
        named = ", ".join(map(str, absent[:NUM_NAMED])) + (", ..." if len(absent) > NUM_NAMED else "")
        raise InputError(
            f"{listed_in}: lists {total} {what}, of which {len(absent)} are absent: {named}. "
            f"Complete the {what}, or list only those that are there"
        )


def shown(record: object) -> str:
    """Return a record, cut to a readable length."""
    text = repr(record)
    return text if len(text) <= 120 else f"{text[:117]}..."


class Tally:
    """Counts by reason, in the order in which the reasons came up."""

    def __init__(self) -> None:
        self._left_out: dict[str, tuple[int, str]] = {}
        self._notes: dict[str, tuple[int, str]] = {}
        self._once: set[tuple[str, str]] = set()

    def leave_out(self, what: str, example: object, number: int = 1) -> None:
        """Count ``number`` more that are not taken; ``what`` is their kind and the reason, in the plural."""
        _count(self._left_out, what, example, number)

    def note(self, what: str, example: object, number: int = 1) -> None:
        """Count ``number`` more that are taken, and in which way."""
        _count(self._notes, what, example, number)

    def note_once(self, what: str, example: str) -> None:
        """Note as ``note`` does, each example no more than once."""
        if (what, example) not in self._once:
            self._once.add((what, example))
            self.note(what, example)

    def left_out(self, what: str) -> int:
        """Return how many were left out for this reason."""
        return self._left_out.get(what, (0, ""))[0]

    def noted(self) -> str:
        """Return the notes alone, empty where there are none."""
        return _counted(self._notes)

    def line(self, name: str, taken: str) -> str:
        """Return one line: ``mine: took 5 images; left out 1 of: texts without an image (b.txt)``."""
        notes = f"; noted {self.noted()}" if self._notes else ""
        return f"{name}: took {taken}; left out {_counted(self._left_out) or 'nothing'}{notes}"


def _count(counts: dict[str, tuple[int, str]], what: str, example: object, number: int) -> None:
    if number:
        before, first = counts.get(what, (0, printable(example)))
        counts[what] = before + number, first


def _counted(counts: dict[str, tuple[int, str]]) -> str:
    return ", ".join(f"{number:,} {what} (such as {example})" for what, (number, example) in counts.items())
