"""What training and validation measured, row by row, as it goes into CSV files and checkpoints."""

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

from components.core.files import write_text

Row = dict[str, float]


@dataclass(slots=True)
class History:
    """Rows of measurements; each has ``iteration``, the number of iterations done by then."""

    train: list[Row] = field(default_factory=list)
    val: list[Row] = field(default_factory=list)

    def is_validated(self, iteration: int) -> bool:
        """Whether there is a validation after ``iteration`` iterations."""
        return any(row["iteration"] == iteration for row in self.val)

    @property
    def best_validation(self) -> Row | None:
        """The validation with the lowest loss, the first of several; None without any."""
        return min(self.val, key=lambda row: row["loss"], default=None)

    def write_csv(self, folder: Path) -> list[Path]:
        """Write ``train.csv`` and ``val.csv`` into ``folder``, atomically; returns their paths."""
        return [_write_csv(folder / "train.csv", self.train), _write_csv(folder / "val.csv", self.val)]


def _write_csv(path: Path, rows: list[Row]) -> Path:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
    return path
