"""Rows of CSV and TSV files: quotes that do not pair swallow no row, and no column shifts.

A quoted cell may run over several lines. Where a quote is not closed before a line that looks like a row
of its own, or not at all, it is a character of the caption, as in Conceptual Captions.
"""

import csv
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from components.core.errors import InputError
from components.sources.layout import shown
from components.sources.tally import Tally

csv.field_size_limit(sys.maxsize)  # images written into cells are longer than its 131,072 characters


class DelimitedFile:
    """A table's header and rows.

    Args:
        path: for messages.
        lines: of text, each with its end.
        separator: a comma or a tab.
        tally: is told of quotes that are taken as they stand.

    Raises:
        InputError: there is no header.
    """

    def __init__(self, path: Path, lines: Iterable[str], separator: str, tally: Tally) -> None:
        self._path = path
        self._lines = iter(lines)
        self._separator = separator
        self._tally = tally
        self._again: deque[str] = deque()  # lines that were looked at, and belong to a later row
        self._looks_like_row: Callable[[str], bool] = lambda line: False
        self._number = 0
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
            InputError: a row has more cells or fewer, or its quotes do not pair; names it.
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
        """The next row's cells; lines that are empty count as rows and are passed over."""
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
                f"{self._where}: its quotes do not pair: {shown(line.strip())}. Double each quote inside a "
                "quoted cell"
            )
        self._tally.note("rows whose quotes do not pair, read as they stand", self._where)
        return cells

    def _growing(self, used: list[str]) -> Iterator[str]:
        yield used[0]
        while (line := self._next_line()) is not None:
            if self._looks_like_row(line):
                self._again.appendleft(line)
                return
            used.append(line)
            yield line
