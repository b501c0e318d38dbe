"""Rows of tables that are no delimited texts: JSON lines, a JSON list of records, Parquet."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow
import pyarrow.parquet

from components.core.errors import InputError

_BATCH_ROWS = 256  # of which each may hold an image

Record = tuple[str, list[str], list[Any]]  # where, names of the cells, the cells


def json_lines(path: Path, file: IO[bytes]) -> Iterator[Record]:
    """A record a line; line by line, so that a fault's line is known.

    Raises:
        InputError: a line is no object in JSON.
    """
    for number, line in enumerate(file, 1):
        if line.strip():
            where = f"{path}: line {number}"
            yield _record(where, _parsed(where, line))


def json_records(path: Path, file: IO[bytes]) -> Iterator[Record]:
    """Of a list of records, or of JSON lines under this name.

    Raises:
        InputError: it is neither.
    """
    start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    file.seek(0)
    if start.startswith(b"{"):
        yield from json_lines(path, file)
        return
    records = _parsed(str(path), file.read())
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
    """What a key given twice holds is both, in a list; otherwise the last would win without a word."""
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
