"""What a reader leaves out, or reads in a way that people should know of: how often, and an example."""

from components.core.image_files import printable


class Tally:
    """Counts by reason, in the order in which the reasons came up."""

    def __init__(self) -> None:
        self._left_out: dict[str, tuple[int, str]] = {}
        self._notes: dict[str, tuple[int, str]] = {}
        self._once: set[tuple[str, str]] = set()

    def leave_out(self, what: str, example: object, number: int = 1) -> None:
        """``number`` more are not taken; ``what`` is their kind and the reason, in the plural."""
        _add(self._left_out, what, example, number)

    def note(self, what: str, example: object, number: int = 1) -> None:
        """``number`` more are taken, and in which way."""
        _add(self._notes, what, example, number)

    def note_once(self, what: str, example: str) -> None:
        """As ``note``, each example no more than once."""
        if (what, example) not in self._once:
            self._once.add((what, example))
            self.note(what, example)

    def left_out(self, what: str) -> int:
        """How many were left out for this reason."""
        return self._left_out.get(what, (0, ""))[0]

    def line(self, name: str, taken: str) -> str:
        """One line for people: ``mine: took 5 images; left out 1 of: texts without an image (b.txt)``."""
        notes = f"; noted {_shown(self._notes)}" if self._notes else ""
        return f"{name}: took {taken}; left out {_shown(self._left_out) or 'nothing'}{notes}"


def _add(counts: dict[str, tuple[int, str]], what: str, example: object, number: int) -> None:
    if number:
        before, first = counts.get(what, (0, printable(example)))
        counts[what] = before + number, first


def _shown(counts: dict[str, tuple[int, str]]) -> str:
    return ", ".join(f"{number:,} {what} (such as {example})" for what, (number, example) in counts.items())
