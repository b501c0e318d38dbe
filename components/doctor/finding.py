"""What a check found."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from components.params import Section

State = Literal["fine", "attention", "broken"]
Sections = Mapping[str, Section]  # the active parameters; empty if they cannot be read


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


Check = Callable[[Sections], Iterator[Finding]]


def fine(name: str, found: str) -> Finding:
    return Finding(name, "fine", found)


def attention(name: str, found: str, advice: str) -> Finding:
    return Finding(name, "attention", found, advice)


def broken(name: str, found: str, advice: str) -> Finding:
    return Finding(name, "broken", found, advice)
