"""A table of images and captions: CSV, TSV, JSON or Parquet.

One row per caption; rows of one image are its captions, in their order. A cell may also hold a list of
captions (JSON, Parquet), and an image its bytes (Parquet, as Hugging Face writes it; data URIs).
"""

import base64
import binascii
import difflib
import hashlib
import io
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote_to_bytes

from components.core.errors import InputError
from components.core.foreign_text import printable
from components.sources.download.images import url_fault
from components.sources.image_files import is_image
from components.sources.layout import Tally, shown
from components.sources.readers.own import rows
from components.sources.readers.own.image_places import NamedFiles, PackedImages
from components.sources.readers.own.published import URL, implied_header, is_of_urls
from components.sources.readers.own.rows import DelimitedFile, kind_of, opened
from components.sources.readers.own.sample import SPLIT_NAMES, OwnImage, OwnImages, OwnSettings, split_named


@dataclass(frozen=True, slots=True)
class Columns:
    """Indices into a row's cells.

    Attributes:
        image: of the image.
        captions: of all columns with captions, from left to right.
        split: of the split; None without one.
        wanted: names of all these.
    """

    image: int
    captions: tuple[int, ...]
    split: int | None
    wanted: frozenset[str]

    @classmethod
    def choose(cls, where: object, names: Sequence[str], settings: OwnSettings, tally: Tally) -> "Columns":
        """Find the columns that ``settings`` names.

        Captions are in every column of their name, also with a number behind (``caption``, ``caption``,
        ``caption_2``). Columns that are not read are noted.

        Args:
            where: the table or row, for messages.
            names: of all columns, from left to right.
            settings: their names.
            tally: is told of the columns that are not read.

        Raises:
            InputError: there is none, or there are two for the image or the split.
        """
        numbered = re.compile(re.escape(settings.caption_column) + r"([ ._-]?\d+)?")
        captions = tuple(index for index, name in enumerate(names) if numbered.fullmatch(name))
        images = _indices(names, settings.image_column)
        splits = _indices(names, settings.split_column)
        for key, found in (("image_column", images), ("caption_column", captions)):
            if not found:
                raise InputError(_lacking(where, names, key, getattr(settings, key)))
        for name, found in ((settings.image_column, images), (settings.split_column, splits)):
            if len(found) > 1:
                raise InputError(f"{where}: {len(found)} columns are called `{name}`; expected one")
        used = {*captions, *images, *splits}
        for index, name in enumerate(names):
            if index not in used and name:
                tally.note_once("columns that are not read", f"`{name}`")
        wanted = frozenset(names[index] for index in used)
        return cls(images[0], captions, splits[0] if splits else None, wanted)

    def of(self, cells: Sequence[Any]) -> tuple[Any, list[Any], Any]:
        """Return the image, the cells with captions, and the split, of a row."""
        split = None if self.split is None else cells[self.split]
        return cells[self.image], [cells[index] for index in self.captions], split


def _indices(names: Sequence[str], wanted: str) -> list[int]:
    return [index for index, name in enumerate(names) if name == wanted]


def _lacking(where: object, names: Sequence[str], key: str, name: str) -> str:
    if len(names) == 1 and (separators := [mark for mark in ";\t|," if mark in names[0]]):
        return (
            f"{where}: no column `{name}`: its header is one cell, {shown(names[0])}, as if "
            f"{separators[0]!r} parted the cells. Save it with commas as .csv, or with tabs as .tsv"
        )
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" (did you mean `{close[0]}`?)" if close else ""
    return (
        f"{where}: no column `{name}`{hint}; it has {', '.join(names) or 'none'}. Rename one, or name yours "
        f"in params.yaml (download.own_data.{key})"
    )


FILE_NAME, _TEXT = "file_name", "text"  # the columns of Hugging Face's imagefolder
_Row = tuple[str, Any, list[Any], Any]  # where, image, cells with captions, split


class TableReader:
    """Reads tables into one collection of images.

    Args:
        settings: names of the columns.
        images: where the images go.
        packed: where images go that are written into the table itself.
        tally: is told of what is left out.
    """

    def __init__(self, settings: OwnSettings, images: OwnImages, packed: PackedImages, tally: Tally) -> None:
        self._settings = settings
        self._images = images
        self._packed = packed
        self._tally = tally
        self._embedded: dict[str, OwnImage] = {}

    def read(
        self, path: Path, root: Path, split_of: Callable[[Path], str | None] = lambda path: None
    ) -> None:
        """Read a table; images in the order of their first rows, blank captions left out.

        Image paths are relative to the table's folder; ``http`` and ``https`` URLs stay URLs.

        Args:
            path: of the table.
            root: the dataset's folder, which images are named relative to.
            split_of: the split of an image's file, or of the table for other images, where no column says.

        Raises:
            InputError: not such a table, a column is missing, or a cell is not what it must be; names the
                row and the column.
        """
        files = NamedFiles(path.parent, root)
        empty = True
        for where, written, captions, split in self._rows(path, files):
            empty = False
            image, identity = self._image(where, written, files)
            image.captions = [caption for cell in captions for caption in self._captions(where, cell)]
            named = self._split(where, split)
            image.split = named or split_of(
                path if image.path in (None, self._packed.archive) else image.path
            )
            self._images.add(image, identity)
        if empty:
            raise InputError(f"{path}: the table has no rows")

    def read_urls(self, pairs: Iterable[tuple[str, str, str]], root: Path) -> None:
        """Read where an image is named, its URL and its caption, of each pair of them."""
        files = NamedFiles(root, root)
        for where, url, caption in pairs:
            image, identity = self._image(where, url, files)
            image.captions = [caption]
            self._images.add(image, identity)

    def _image(self, where: str, written: Any, files: NamedFiles) -> tuple[OwnImage, object]:
        if isinstance(written, dict) and {"bytes", "path"} & written.keys():  # Hugging Face's Image
            named = written.get("path") or ""
            content = written.get("bytes")
            written = named if content is None else content
            if content is not None:
                return self._embed(where, content, str(named))
        if isinstance(written, bytes):
            return self._embed(where, written, "")
        if not isinstance(written, str) or not written.strip():
            raise InputError(
                f"{where}, column `{self._settings.image_column}`: expected an image's path or URL, "
                f"found {shown(written)}"
            )
        scheme = written.strip().partition(":")[0].lower()
        if scheme == "data":
            return self._data_uri(where, written.strip())
        if scheme in ("http", "https") and written.strip().lower().startswith(f"{scheme}://"):
            url = written.strip()
            fault = url_fault(url)
            return OwnImage(
                printable(url), where, None, url=url, fault=fault and f"{shown(url)}: not a URL ({fault})"
            ), ("url", url)
        if "://" in written[:20]:
            fault = f"{shown(written)}: of URLs only http and https are fetched; download it first"
            return OwnImage(printable(written), where, None, fault=fault), ("url", written)
        path, key, identity = files.find(written)
        if identity is None:
            named = str(path) if len(str(path)) <= 200 else f"{str(path)[:197]}..."
            return OwnImage(key, where, path, fault=f"no such image: {printable(named)}"), ("absent", key)
        return OwnImage(key, where, path), identity

    def _data_uri(self, where: str, written: str) -> tuple[OwnImage, object]:
        header, comma, data = written.partition(",")
        try:
            if not comma:
                raise ValueError("no comma")
            if header.lower().endswith(";base64"):
                content = base64.b64decode(unquote_to_bytes(data), validate=True)
            else:
                content = unquote_to_bytes(data)
            if not content:
                raise ValueError("empty")
        except (binascii.Error, ValueError) as error:
            fault = f"{shown(written)}: a broken data URI ({error})"
            return OwnImage(f"data:{where}", where, None, fault=fault), ("broken", where)
        return self._embed(where, content, "")

    def _embed(self, where: str, content: bytes, named: str) -> tuple[OwnImage, object]:
        key = hashlib.sha256(content).hexdigest()
        before = self._embedded.get(key)
        if before is None:
            member = self._packed.add(content, named)
            before = self._embedded[key] = OwnImage(key, where, self._packed.archive, member=member)
        return OwnImage(key, where, before.path, member=before.member), ("embedded", key)

    def _captions(self, where: str, written: Any) -> list[str]:
        captions = written if isinstance(written, list) else [written]
        captions = ["" if _missing(caption) else caption for caption in captions]
        if not all(isinstance(caption, str) for caption in captions):
            raise InputError(
                f"{where}, column `{self._settings.caption_column}`: expected a text or a list of texts, "
                f"found {shown(written)}"
            )
        return captions

    def _split(self, where: str, written: Any) -> str | None:
        if _missing(written) or written == "":
            return None
        split = split_named(str(written))
        if split is None:
            raise InputError(
                f"{where}, column `{self._settings.split_column}`: expected {', '.join(SPLIT_NAMES)}, "
                f"found {shown(written)}"
            )
        return split

    def _rows(self, path: Path, files: NamedFiles) -> Iterator[_Row]:
        kind = kind_of(path)
        if kind == ".parquet":
            names = rows.parquet_columns(path)
            columns = self._columns(path, path, names)
            yield from self._chosen(path, rows.parquet_rows(path, columns.wanted))
            return
        with opened(path) as file:
            if kind in (".csv", ".tsv"):
                yield from self._delimited(path, file, files, "\t" if kind == ".tsv" else ",")
            else:
                read = rows.json_records if kind == ".json" else rows.json_lines
                yield from self._chosen(path, read(path, file))

    def _delimited(self, path: Path, file: IO[bytes], files: NamedFiles, separator: str) -> Iterator[_Row]:
        lines = io.TextIOWrapper(file, encoding="utf-8-sig")
        first = lines.readline()
        names = self._settings.image_column, self._settings.caption_column
        implied = implied_header(first, separator, *names)
        given = itertools.chain([implied] if implied else [], [first] if first else [], lines)
        table = DelimitedFile(path, given, separator, self._tally, implied is not None)
        columns = self._columns(path, path, table.header)

        def may_be_image(cell: str) -> bool:
            like = is_image(cell.strip()) or cell.lower().startswith(("http://", "https://", "data:"))
            return like or bool(cell.strip() and files.find(cell)[2])

        for where, cells in table.rows(columns.image, may_be_image):
            yield where, *columns.of(cells)

    def _columns(self, path: Path, where: object, names: Sequence[str]) -> Columns:
        settings = self._settings
        if path.name.lower().startswith("metadata."):
            if settings.image_column not in names and FILE_NAME in names:
                settings = replace(settings, image_column=FILE_NAME)
            if settings.caption_column not in names and _TEXT in names:
                settings = replace(settings, caption_column=_TEXT)
        if settings.image_column not in names and is_of_urls(names):
            settings = replace(settings, image_column=URL)
        return Columns.choose(where, names, settings, self._tally)

    def _chosen(self, path: Path, records: Iterator[rows.Record]) -> Iterator[_Row]:
        """Of records that name their cells themselves."""
        by_names: dict[tuple[str, ...], Columns] = {}
        for where, names, cells in records:
            columns = by_names.get(tuple(names))
            if columns is None:
                columns = self._columns(path, where, names)
                by_names[tuple(names)] = columns
            yield where, *columns.of(cells)


def _missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and cell != cell)
