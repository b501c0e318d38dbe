"""Whether this machine can do what params.yaml asks for: what a check finds, and how it is shown."""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from components.params import Section

State = Literal["fine", "attention", "broken"]
Sections = Mapping[str, Section]  # the active parameters; empty if they cannot be read
_STATE_WIDTH, _NAME_WIDTH = 11, 15


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing on the machine, and how it is.

    Attributes:
        name: of the thing.
        state: ``fine``; ``attention`` where something is missing or slow that the active parameters do not
            need; ``broken`` where they need it.
        found: what is there.
        advice: what to do; empty where there is nothing to do.
    """

    name: str
    state: State
    found: str
    advice: str = ""

    def shown(self, width: int) -> str:
        """Return the finding for a terminal, its advice on lines of its own."""
        indent = " " * (_STATE_WIDTH + _NAME_WIDTH)
        head = f"{self.state:<{_STATE_WIDTH}}{self.name:<{_NAME_WIDTH - 1}} "
        texts = [(head + " ".join(self.found.split()), indent)]
        if self.advice:
            texts.append((f"{indent}-> {self.advice}", f"{indent}   "))
        options: dict[str, Any] = {
            "width": max(width, 60),
            "break_long_words": False,
            "break_on_hyphens": False,
        }
        return "\n".join(textwrap.fill(text, subsequent_indent=below, **options) for text, below in texts)


Check = Callable[[Sections], Iterator[Finding]]


def fine(name: str, found: str) -> Finding:
    return Finding(name, "fine", found)


def attention(name: str, found: str, advice: str) -> Finding:
    return Finding(name, "attention", found, advice)


def broken(name: str, found: str, advice: str) -> Finding:
    return Finding(name, "broken", found, advice)


def fine_unless(
    name: str, found: str, advice: str, *, is_broken: bool = False, is_doubtful: bool = False
) -> Finding:
    """Return a finding that is fine, or needs the advice."""
    if not is_broken and not is_doubtful:
        return fine(name, found)
    return Finding(name, "broken" if is_broken else "attention", found, advice)


def summary(findings: Sequence[Finding]) -> str:
    """Return one line of counts."""
    counts = {state: sum(f.state == state for f in findings) for state in ("fine", "attention", "broken")}
    return ", ".join(f"{number} {state}" for state, number in counts.items() if number)
