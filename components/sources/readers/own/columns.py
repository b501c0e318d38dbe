"""Which columns of a table hold the image, its captions and its split."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.core.errors import InputError
from components.sources.readers.own.sample import OwnSettings
from components.sources.tally import Tally


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
        """The image, the cells with captions, and the split, of a row."""
        split = None if self.split is None else cells[self.split]
        return cells[self.image], [cells[index] for index in self.captions], split


def _indices(names: Sequence[str], wanted: str) -> list[int]:
    return [index for index, name in enumerate(names) if name == wanted]


def _lacking(where: object, names: Sequence[str], key: str, name: str) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" (did you mean `{close[0]}`?)" if close else ""
    return (
        f"{where}: no column `{name}`{hint}; it has {', '.join(names) or 'none'}. Rename one, or name yours "
        f"in params.yaml (download.own_data.{key})"
    )
