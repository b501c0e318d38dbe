"""Rows of tables, whatever files they are in: CSV, TSV, JSON, JSON lines, Parquet; compressed ones too.

In CSV and TSV, quotes that do not pair swallow no row, and no column shifts. A quoted cell may run over
several lines. Where a quote is not closed before a line that looks like a row of its own, or not at all, it
is a character of the caption, as in Conceptual Captions.
"""

import bz2
import csv
import gzip
import json
import lzma
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import pyarrow
import pyarrow.parquet

from components.core.errors import InputError
from components.sources.layout import Tally, shown
from components.sources.readers.own.published import records_within

_TEXTS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
_OPENERS: dict[str, Callable[[Path], object]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
SUFFIXES = (*_TEXTS, ".parquet")
COMPRESSED = tuple(_OPENERS)


def kind_of(path: Path) -> str | None:
    """Return the suffix of the kind of table that a path names, compressed or not; None if it names none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if len(suffixes) > 1 and suffixes[-1] in _OPENERS and suffixes[-2] in _TEXTS:
        return suffixes[-2]
    return suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else None


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a table for its bytes, uncompressed.

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


csv.field_size_limit(sys.maxsize)  # images written into cells are longer than its 131,072 characters


class DelimitedFile:
    """A table's header and rows.

    Args:
        path: for messages.
        lines: of text, each with its end.
        separator: a comma or a tab.
        lacks_header: whether the first of the lines, the header, is not in the file.
        tally: is told of quotes that are taken as they stand.

    Raises:
        InputError: there is no header.
    """

    def __init__(
        self, path: Path, lines: Iterable[str], separator: str, tally: Tally, lacks_header: bool = False
    ) -> None:
        self._path = path
        self._lines = iter(lines)
        self._separator = separator
        self._tally = tally
        self._again: deque[str] = deque()  # lines that were looked at, and belong to a later row
        self._looks_like_row: Callable[[str], bool] = lambda line: False
        self._number = -1 if lacks_header else 0
        header = self._next_cells(None)
        if header is None:
            raise InputError(f"{path}: empty; expected a header and a row for each caption")
        while header and not header[-1].strip():
            header.pop()
        self.header = [name.strip() for name in header]

    def rows(self, image_column: int, is_image: Callable[[str], bool]) -> Iterator[tuple[str, list[str]]]:
        """Where each row is, and its cells, as many as the header has.

        Args:
            image_column: its index.
            is_image: whether a cell may be an image's name, so that its line is a row.

        Raises:
            InputError: a row has more cells or fewer, or its quotes are not balanced; names it.
        """
        width = len(self.header)

        def looks_like_row(line: str) -> bool:
            cells = next(csv.reader([line], delimiter=self._separator), [])
            return len(cells) == width and is_image(cells[image_column])

        self._looks_like_row = looks_like_row
        while (cells := self._next_cells(width)) is not None:
            extra = cells[width:]
            if len(cells) < width or any(cell.strip() for cell in extra):
                raise InputError(self._miscounted(cells, width))
            if extra:
                self._tally.note("rows with a blank cell too many at the end", self._where)
            yield self._where, cells[:width]

    @property
    def _where(self) -> str:
        return f"{self._path}: row {self._number}"

    def _miscounted(self, cells: list[str], width: int) -> str:
        if len(cells) < width:
            fault = f"{len(cells)} cells ({shown(cells)}), and the header has {width}"
        else:
            extra = next(cell for cell in cells[width:] if cell.strip())
            fault = f"{len(cells)} cells, and the header has {width}; the extra cell is {shown(extra)}"
        return (
            f"{self._where}: {fault} ({', '.join(self.header)}). Put cells with a "
            f"{'tab' if self._separator != ',' else 'comma'} in them between double quotes, and give every "
            "row as many cells as the header"
        )

    def _next_cells(self, width: int | None) -> list[str] | None:
        """Return the next row's cells; lines that are empty count as rows and are passed over."""
        while (line := self._next_line()) is not None:
            self._number += 1
            if line.strip("\r\n"):
                return self._cells(line, width)
        return None

    def _next_line(self) -> str | None:
        return self._again.popleft() if self._again else next(self._lines, None)

    def _cells(self, line: str, width: int | None) -> list[str]:
        if '"' not in line:
            return line.rstrip("\r\n").split(self._separator)
        used = [line]
        try:
            return next(csv.reader(self._growing(used), delimiter=self._separator, strict=True))
        except csv.Error:
            self._again.extendleft(reversed(used[1:]))
        cells = line.rstrip("\r\n").split(self._separator)
        if width is not None and len(cells) != width:
            raise InputError(
                f"{self._where}: its quotes are not balanced: {shown(line.strip())}. Double each quote "
                "inside a quoted cell"
            )
        self._tally.note("rows whose quotes are not balanced, read as they stand", self._where)
        return cells

    def _growing(self, used: list[str]) -> Iterator[str]:
        yield used[0]
        while (line := self._next_line()) is not None:
            if self._looks_like_row(line):
                self._again.appendleft(line)
                return
            used.append(line)
            yield line


_BATCH_ROWS = 256  # of which each may hold an image

Record = tuple[str, list[str], list[Any]]  # where, names of the cells, the cells


def json_lines(path: Path, file: IO[bytes]) -> Iterator[Record]:
    """Yield a record per line; line by line, so that a fault's line is known.

    Raises:
        InputError: a line is no object in JSON.
    """
    for number, line in enumerate(file, 1):
        if line.strip():
            where = f"{path}: line {number}"
            yield _record(where, _parsed(where, line))


def json_records(path: Path, file: IO[bytes]) -> Iterator[Record]:
    """Of a list of records, of RedCaps' or SBU's objects, or of JSON lines under this name.

    Raises:
        InputError: it is neither.
    """
    filled = (line for line in (line.strip(b" \t\r\n\xef\xbb\xbf") for line in file) if line)
    first, second = next(filled, b""), next(filled, b"")
    file.seek(0)
    are_lines = first.startswith(b"{") and first.endswith(b"}")
    if are_lines and second:
        yield from json_lines(path, file)
        return
    records = _parsed(str(path), file.read())
    if isinstance(records, dict):
        records = records_within(path, records) or ([records] if are_lines else None)
    if not isinstance(records, list):
        raise InputError(f'{path}: expected a list of records such as {{"image": ..., "caption": ...}}')
    for number, record in enumerate(records, 1):
        where = f"{path}: record {number}"
        yield _record(where, record)


def _parsed(where: str, written: bytes) -> Any:
    try:
        return json.loads(written.decode("utf-8-sig"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: broken JSON ({error})") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Keep all values of a key given twice, in a list; otherwise the last one would win unnoticed."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        found[key] = [found[key], value] if key in found else value
    return found


def _record(where: str, record: Any) -> Record:
    if not isinstance(record, dict):
        raise InputError(f'{where}: expected an object such as {{"image": ..., "caption": ...}}')
    if {"images", "annotations"} <= record.keys():
        raise InputError(f"{where}: a file in COCO layout; name the folder that has annotations/ instead")
    return where, list(record), list(record.values())


def parquet_rows(path: Path, wanted: frozenset[str] | None = None) -> Iterator[Record]:
    """Row by row, without the whole file in memory.

    Args:
        path: the file.
        wanted: columns to read; all by default.

    Raises:
        InputError: not a Parquet file, or damaged.
    """
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if wanted is None or name in wanted]
            number = 0
            for batch in file.iter_batches(_BATCH_ROWS, columns=names):
                for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    number += 1
                    yield f"{path}: row {number}", batch.schema.names, list(cells)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, EOFError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"{path}: not a parquet table: {reason}") from None


def parquet_columns(path: Path) -> list[str]:
    """Names of the columns.

    Raises:
        InputError: not a Parquet file.
    """
    try:
        return list(pyarrow.parquet.read_schema(path).names)
    except (pyarrow.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"{path}: not a parquet table: {reason}") from None
