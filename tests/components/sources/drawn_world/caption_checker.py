"""Reads the drawn world's English back, without the code that wrote it, and holds it against the scene."""

import re
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from components.sources.drawn_world.scene import Scene

NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
# fmt: off
NOUNS = [
    "circle", "square", "triangle", "star", "cross", "ring", "heart", "crescent", "diamond", "arrow",
    "flower", "house",
]
# fmt: on
PLURALS = {noun + ("es" if noun == "cross" else "s"): noun for noun in NOUNS}
COLOURS = ["red", "green", "blue", "purple", "black"]
ADJECTIVES = ["small", "large", "plain", "striped", "dotted", "checked", *COLOURS]
SIDEWAYS = ["to the left of", "left of", "to the right of", "right of"]
RELATIONS = [*SIDEWAYS, "above", "below", "behind", "in front of"]
PLACES = {
    "on the left": lambda t, size: t.x < size[1] / 3,
    "on the right": lambda t, size: t.x > size[1] * 2 / 3,
    "at the top": lambda t, size: t.y < size[0] / 3,
    "at the bottom": lambda t, size: t.y > size[0] * 2 / 3,
    "in the middle": lambda t, size: (
        size[1] / 3 <= t.x <= size[1] * 2 / 3 and size[0] / 3 <= t.y <= size[0] * 2 / 3
    ),
}
PHRASE = re.compile(
    rf"\b(?P<many>an?|another|many|{'|'.join(NUMBERS)})(?P<more> more)?"
    rf"(?P<adjectives>(?: (?:{'|'.join(ADJECTIVES)}))*)"
    rf" (?P<noun>{'|'.join([*PLURALS, *NOUNS])})\b"
)


@dataclass(frozen=True)
class Thing:
    """What is known of one object: its words, the centre of its box, its depth (0 is the back)."""

    words: frozenset[str]
    noun: str
    x: float
    y: float
    depth: int
    mask: np.ndarray


@dataclass(frozen=True)
class Facts:
    """All that a caption may speak of; ``size`` is height and width."""

    size: tuple[int, int]
    background: str
    things: tuple[Thing, ...]
    crowd: tuple[frozenset[str], str] | None

    def mirrored(self) -> "Facts":
        """The facts of the mirror image."""
        things = tuple(replace(t, x=self.size[1] - t.x, mask=t.mask[:, ::-1]) for t in self.things)
        return replace(self, things=things)


@dataclass(frozen=True)
class Phrase:
    """``two more red circles``: a quantity, adjectives, a noun in the singular, its place in the text."""

    quantity: str
    more: bool
    adjectives: frozenset[str]
    noun: str
    start: int
    end: int


def facts_of(scene: Scene) -> Facts:
    """The facts of a composed scene, boxes taken from the masks anew."""
    things = []
    for depth, placed in enumerate(scene.objects):
        rows, columns = np.nonzero(placed.visible)
        x, y = (columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2
        look = placed.look
        words = frozenset((look.size, look.texture, look.colour))
        things.append(Thing(words, look.shape, x, y, depth, placed.whole))
    crowd = None
    if scene.crowd is not None:
        crowd = (frozenset(("small", scene.crowd.look.colour)), scene.crowd.look.shape)
    return Facts(scene.size, scene.background, tuple(things), crowd)


def untruths(caption: str, facts: Facts) -> list[str]:
    """What is wrong with a caption: grammar of its noun phrases, counts, places, relations, background."""
    if not re.fullmatch(r"[A-Z][a-z,: ]+\.", caption):
        return [f"not a sentence: {caption}"]
    text = caption[:-1].lower()
    phrases = _phrases(text)
    wrong = [message for phrase in phrases for message in _phrase_untruths(phrase, text, facts)]
    wrong += _relation_untruths(text, phrases, facts)
    for place, holds in PLACES.items():
        if text.endswith(place) and not any(holds(t, facts.size) for t in _matching(phrases[0], facts)):
            wrong.append(f"nothing {place}")
    if (found := re.search(r"on an? (\w+) background$", text)) and found[1] != facts.background:
        wrong.append("another background")
    if (found := re.match(r"(\w+) shapes: ", text)) and NUMBERS[found[1]] != len(facts.things):
        wrong.append("another number of shapes")
    if "background" in text or "shapes:" in text or text.startswith(("a picture", "a drawing")):
        told = sum(
            1 if p.quantity in ("a", "an") else NUMBERS[p.quantity] for p in phrases if p.quantity != "many"
        )
        if told != len(facts.things):
            wrong.append(f"an inventory of {told} things out of {len(facts.things)}")
    return wrong


def _phrases(text: str) -> list[Phrase]:
    return [
        Phrase(
            match["many"],
            match["more"] is not None,
            frozenset(match["adjectives"].split()),
            PLURALS.get(match["noun"], match["noun"]),
            match.start(),
            match.end(),
        )
        for match in PHRASE.finditer(text)
    ]


def _matching(phrase: Phrase, facts: Facts) -> list[Thing]:
    return [t for t in facts.things if t.noun == phrase.noun and phrase.adjectives <= t.words]


def _phrase_untruths(phrase: Phrase, text: str, facts: Facts) -> list[str]:
    words = text[phrase.start : phrase.end]
    if phrase.quantity == "many":
        fits = (
            facts.crowd is not None and facts.crowd[1] == phrase.noun and phrase.adjectives <= facts.crowd[0]
        )
        return [] if fits and words.endswith("s") else [f"no such crowd: {words}"]
    wrong = []
    is_plural = words.rpartition(" ")[2] in PLURALS
    if is_plural != (phrase.quantity not in ("a", "an", "another", "one")):
        wrong.append(f"number: {words}")
    if phrase.quantity in ("a", "an") and (phrase.quantity == "an") != (words.split()[1][0] in "aeiou"):
        wrong.append(f"article: {words}")
    count = len(_matching(phrase, facts))
    if phrase.more or phrase.quantity == "another":
        least = NUMBERS.get(phrase.quantity, 1) + 1
        if len([t for t in facts.things if t.noun == phrase.noun]) < least or count < 1:
            wrong.append(f"not so many more: {words}")
    elif (count < 1) if phrase.quantity in ("a", "an") else (count != NUMBERS[phrase.quantity]):
        wrong.append(f"{count} in truth: {words}")
    return wrong


def _relation_untruths(text: str, phrases: list[Phrase], facts: Facts) -> list[str]:
    wrong = []
    for first, second in pairwise(phrases):
        between = text[first.end : second.start].strip()
        if between not in RELATIONS:
            continue
        pairs = [(a, b) for a in _matching(first, facts) for b in _matching(second, facts) if a is not b]
        if not any(_related(between, a, b, min(facts.size)) for a, b in pairs):
            wrong.append(f"untrue: {text[first.start : second.end]}")
    return wrong


def _related(words: str, a: Thing, b: Thing, side: int) -> bool:
    dx, dy = b.x - a.x, b.y - a.y
    if "left" in words or "right" in words:
        return (dx if "left" in words else -dx) >= max(0.2 * side, abs(dy))
    if words in ("above", "below"):
        return (dy if words == "above" else -dy) >= max(0.2 * side, abs(dx))
    overlap = bool((a.mask & b.mask).any())
    return overlap and (a.depth < b.depth if words == "behind" else a.depth > b.depth)
