"""A table of images and captions: CSV, TSV, JSON lines or Parquet.

One row a caption; rows of one image are its captions, in their order. A cell may also hold a list of
captions (JSON lines, Parquet).
"""

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow

from components.errors import InputError
from components.sources.own.sample import OwnImage, OwnSettings
from components.sources.own.splits import SPLIT_NAMES, split_named

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")

_Row = tuple[str, Any, Any, Any]  # where, image, caption or captions, split


def read_table(path: Path, settings: OwnSettings) -> list[OwnImage]:
    """Images in the order of their first rows; blank captions are left out.

    Image paths are relative to the table's folder; ``http`` and ``https`` URLs stay URLs.

    Raises:
        InputError: not such a table, a column is missing, or a cell is not what it must be; names the
            row and the column.
    """
    images: dict[str, OwnImage] = {}
    for where, image, captions, split in _rows(path, settings):
        if not isinstance(image, str) or not image.strip():
            raise InputError(
                f"{where}, column `{settings.image_column}`: expected an image's path or URL, found {image!r}"
            )
        found = images.setdefault(image, _new_image(path.parent, image, where))
        found.captions += _captions(where, captions, settings)
        _set_split(found, where, split, settings)
    if not images:
        raise InputError(f"{path}: the table has no rows")
    return list(images.values())


def _new_image(folder: Path, image: str, where: str) -> OwnImage:
    if image.startswith(("http://", "https://")):
        return OwnImage(image, where, None, url=image)
    if "://" in image:
        raise InputError(f"{where}: {image!r}: of URLs only http and https are fetched; download it first")
    return OwnImage(image, where, folder / image)


def _captions(where: str, written: Any, settings: OwnSettings) -> list[str]:
    if hasattr(written, "tolist"):  # Parquet's lists come as arrays
        written = written.tolist()
    captions = written if isinstance(written, list) else [written]
    if not all(caption is None or isinstance(caption, str) for caption in captions):
        raise InputError(
            f"{where}, column `{settings.caption_column}`: expected a text or a list of texts, "
            f"found {written!r}"
        )
    return [caption for caption in captions if caption and caption.strip()]


def _set_split(image: OwnImage, where: str, written: Any, settings: OwnSettings) -> None:
    if written is None or written == "":
        split = None
    else:
        split = split_named(str(written))
        if split is None:
            raise InputError(
                f"{where}, column `{settings.split_column}`: expected {', '.join(SPLIT_NAMES)}, "
                f"found {written!r}"
            )
    if image.where != where and image.split != split:
        raise InputError(
            f"{where}, column `{settings.split_column}`: {image.key!r} is in {split or 'no split'} here "
            f"and in {image.split or 'no split'} in {image.where}; an image must be in one split"
        )
    image.split = split


def _rows(path: Path, settings: OwnSettings) -> Iterator[_Row]:
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return _json_rows(path, settings)
    return _frame_rows(path, settings)


def _frame_rows(path: Path, settings: OwnSettings) -> Iterator[_Row]:
    frame = _read_frame(path)
    _require_columns(path, [str(name) for name in frame.columns], settings)
    images, captions = frame[settings.image_column], frame[settings.caption_column]
    has_split = settings.split_column in frame.columns
    splits = frame[settings.split_column] if has_split else [None] * len(frame)
    first = 1 if path.suffix.lower() == ".parquet" else 2  # a written header is row 1
    for number, (image, caption, split) in enumerate(zip(images, captions, splits, strict=True), first):
        yield f"{path}: row {number}", _present(image), _present(caption), _present(split)


def _present(cell: Any) -> Any:
    """A missing value of whatever kind as None."""
    return None if pd.api.types.is_scalar(cell) and pd.isna(cell) else cell


def _read_frame(path: Path) -> pd.DataFrame:
    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path)
        separator = "\t" if path.suffix.lower() == ".tsv" else ","
        return pd.read_csv(path, sep=separator, dtype=str, na_filter=False, encoding="utf-8-sig")
    except pd.errors.EmptyDataError:
        raise InputError(f"{path}: empty; expected a header and a row for each caption") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    except (pd.errors.ParserError, pyarrow.ArrowInvalid, ValueError) as error:
        reason = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        raise InputError(f"{path}: not a {path.suffix[1:]} table: {reason}") from None


def _json_rows(path: Path, settings: OwnSettings) -> Iterator[_Row]:
    """Line by line, because pandas does not say in which line the fault is."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}: line {number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise InputError(f"{where}: broken JSON ({error})") from None
            if not isinstance(row, dict):
                raise InputError(f'{where}: expected an object such as {{"image": ..., "caption": ...}}')
            _require_columns(where, list(row), settings)
            image, captions = row[settings.image_column], row[settings.caption_column]
            yield where, image, captions, row.get(settings.split_column)


def _require_columns(where: object, names: list[str], settings: OwnSettings) -> None:
    for key in ("image_column", "caption_column"):
        name = getattr(settings, key)
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f" (did you mean `{close[0]}`?)" if close else ""
            raise InputError(
                f"{where}: no column `{name}`{hint}; it has {', '.join(names) or 'none'}. Rename one, or "
                f"name yours in params.yaml (download.own_data.{key})"
            )
