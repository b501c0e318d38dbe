"""Result tables as CSV files that DVC plots."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from components.core.files import writing


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a header and rows, atomically."""
    with writing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
