"""Noun phrases with the right article, number and plural."""

from collections import Counter
from collections.abc import Sequence

from components.sources.drawn_world.looks import Look
from components.sources.drawn_world.shapes import SHAPE_BY_NAME

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven")


def article(word: str) -> str:
    """The indefinite article that fits before ``word``."""
    return "an" if word[0] in "aeiou" else "a"


def described(look: Look, *features: str) -> str:
    """Adjectives and shape, in English order; ``features`` of size, texture, colour."""
    adjectives = []
    if "size" in features and look.size in ("small", "large"):
        adjectives.append(look.size)
    if "texture" in features and look.texture != "plain":
        adjectives.append(look.texture)
    if "colour" in features:
        adjectives.append(look.colour)
    return " ".join([*adjectives, look.shape])


def one(description: str) -> str:
    """``a red circle``."""
    return f"{article(description)} {description}"


def many(description: str, count: int) -> str:
    """``a red circle`` for one, ``two red circles`` for more; the description ends with a shape."""
    if count == 1:
        return one(description)
    *adjectives, shape = description.split()
    return " ".join([NUMBERS[count], *adjectives, SHAPE_BY_NAME[shape].plural])


def counted(descriptions: Sequence[str]) -> list[str]:
    """One phrase for each different description, with how often it occurs, in order of appearance."""
    return [many(description, count) for description, count in Counter(descriptions).items()]


def listed(phrases: Sequence[str]) -> str:
    """``a, b and c``."""
    if len(phrases) == 1:
        return phrases[0]
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    return f"{text[0].upper()}{text[1:]}."
