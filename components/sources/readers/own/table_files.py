"""Which files are tables, compressed ones among them, and their bytes."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from components.core.errors import InputError

_TEXTS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
_OPENERS: dict[str, Callable[[Path], object]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
SUFFIXES = (*_TEXTS, ".parquet")
COMPRESSED = tuple(_OPENERS)


def kind_of(path: Path) -> str | None:
    """The suffix that says what kind of table a path names, compressed or not; None if it names none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if len(suffixes) > 1 and suffixes[-1] in _OPENERS and suffixes[-2] in _TEXTS:
        return suffixes[-2]
    return suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else None


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a table, uncompressed.

    Raises:
        InputError: damaged, or, while it is read, not UTF-8.
    """
    opener = _OPENERS.get(path.suffix.lower())
    try:
        # Each opens to a file of its own type, and all of them are files of bytes.
        with path.open("rb") if opener is None else cast(IO[bytes], opener(path)) as file:
            yield file
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: damaged ({error}); is it cut short?") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    except OSError as error:
        if opener is None or error.errno is not None:
            raise
        raise InputError(f"{path}: damaged ({error}); is it cut short?") from None  # bz2's own
