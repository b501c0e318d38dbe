"""A folder with tables in it: Hugging Face's imagefolder (images, and a ``metadata`` table that names
them in a column ``file_name``), or Parquet files that hold the images themselves.

A table of metadata may lie in each of ``train/``, ``validation/`` and ``test/``, or one above them all;
a Parquet file's split is the folder it lies in or the word its name begins with, as a shard's.
"""

from collections.abc import Sequence
from pathlib import Path

from components.core.image_files import is_image
from components.sources.readers.own import records
from components.sources.readers.own.named_files import identity_of
from components.sources.readers.own.sample import OwnImages
from components.sources.readers.own.splits import split_of_folder, split_of_shard
from components.sources.readers.own.table import FILE_NAME, TableReader
from components.sources.tally import Tally

Listing = Sequence[tuple[Path, list[str]]]  # folders and the names of their files

_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_HEAD_BYTES = 2**16


def find_metadata(listing: Listing) -> list[Path]:
    """The tables of metadata, sorted; files of this name without the column are others' business."""
    found = [folder / name for folder, names in listing for name in names if name.lower() in _METADATA]
    return sorted(path for path in found if _names_files(path))


def _names_files(path: Path) -> bool:
    if path.suffix.lower() == ".parquet":
        return FILE_NAME in records.parquet_columns(path)
    with path.open("rb") as file:
        return FILE_NAME.encode() in file.read(_HEAD_BYTES)


def find_parquet(listing: Listing) -> list[Path]:
    """The Parquet files, sorted, of a folder without image files; beside those they are others' business."""
    if any(is_image(name) for _, names in listing for name in names):
        return []
    return sorted(
        folder / name for folder, names in listing for name in names if name.lower().endswith(".parquet")
    )


def read_tables(
    root: Path, tables: list[Path], listing: Listing, reader: TableReader, images: OwnImages, tally: Tally
) -> None:
    """Read the tables of a folder, and count what else lies there.

    Raises:
        InputError: see :meth:`TableReader.read`.
    """

    def split_of(path: Path) -> str | None:
        if not path.is_relative_to(root):
            return None
        relative = path.relative_to(root)
        return split_of_folder(relative) or (split_of_shard(relative) if path in tables else None)

    for table in tables:
        reader.read(table, root, split_of)
    for folder, names in listing:
        for name in names:
            path = folder / name
            if path in tables:
                continue
            if not is_image(name):
                tally.leave_out("files that are neither images nor the tables that are read", path)
            elif identity_of(path) not in images:
                tally.leave_out("images that no table names", path)
