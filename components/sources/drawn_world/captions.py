"""Five different true English captions of a scene, each with its own focus, and the phrases in them."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from components.sources.drawn_world.scene import Placed, Relation, Scene, places_of, relations_of
from components.sources.drawn_world.shapes import SHAPE_BY_NAME, Look

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven")


def article(word: str) -> str:
    """Return the indefinite article that fits before ``word``."""
    return "an" if word[0] in "aeiou" else "a"


def described(look: Look, *features: str) -> str:
    """Return adjectives and shape, in English order; ``features`` of size, texture, colour."""
    adjectives = []
    if "size" in features and look.size in ("small", "large"):
        adjectives.append(look.size)
    if "texture" in features and look.texture != "plain":
        adjectives.append(look.texture)
    if "colour" in features:
        adjectives.append(look.colour)
    return " ".join([*adjectives, look.shape])


def one(description: str) -> str:
    """Return ``a red circle``."""
    return f"{article(description)} {description}"


def many(description: str, count: int) -> str:
    """Return ``a red circle`` for one, ``two red circles`` for more; the description ends with a shape."""
    if count == 1:
        return one(description)
    *adjectives, shape = description.split()
    return " ".join([NUMBERS[count], *adjectives, SHAPE_BY_NAME[shape].plural])


def counted(descriptions: Sequence[str]) -> list[str]:
    """Return one phrase for each different description, with how often it occurs, in order of appearance."""
    return [many(description, count) for description, count in Counter(descriptions).items()]


def listed(phrases: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    if len(phrases) == 1:
        return phrases[0]
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def sentence(text: str) -> str:
    """Return the text with a capital letter and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


RELATION_WORDS: dict[str, tuple[str, ...]] = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "above": ("above",),
    "below": ("below",),
    "behind": ("behind",),
    "front": ("in front of",),
}
PLACE_WORDS = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "middle": "in the middle",
}
OPENINGS = ("", "", "a picture of ", "a drawing of ", "a picture with ")


def captions_of(scene: Scene, rng: np.random.Generator) -> list[str]:
    """Return five different captions in random order; every statement in them is true of the scene.

    The word "left" or "right" is the only one that a mirror image makes untrue, and swapping the
    two makes it true again.
    """
    if len(scene.objects) <= 2 and scene.crowd is None:
        captions = _short(scene, rng)
        return [sentence(captions[index]) for index in rng.permutation(5)]
    relations = relations_of(scene)
    captions = [
        _inventory(scene, rng),
        _counts_and_background(scene, rng),
        _relation(scene, _pick(relations, rng, ("left", "right", "above", "below")), rng),
        _details(scene, rng),
    ]
    second = _pick(relations, rng, ("behind", "front")) or _pick(relations, rng)
    captions.append(_second_relation(scene, second, rng))
    while captions[4] in captions[:4] or (relations and _same_words(captions[4], captions[2])):
        captions[4] = _total(scene, rng)
    if len(set(captions)) != 5:
        raise AssertionError(f"captions repeat themselves: {captions}")
    return [sentence(captions[index]) for index in rng.permutation(5)]


def _short(scene: Scene, rng: np.random.Generator) -> list[str]:
    """Return five captions that tell the shapes and little else, one of them also colours.

    A network finds colours long before shapes, and shapes the later the more words there are besides.
    """
    shuffled = _shuffled(scene, rng)
    shapes = listed(counted([placed.look.shape for placed in shuffled]))
    colours = listed(counted([described(placed.look, "texture", "colour") for placed in shuffled]))
    background = one(f"{scene.background} background")
    return [shapes, f"a picture of {shapes}", f"a drawing of {shapes}", f"{shapes} on {background}", colours]


def _same_words(first: str, second: str) -> bool:
    return sorted(first.split()) == sorted(second.split())


def _pick(
    relations: list[Relation], rng: np.random.Generator, kinds: tuple[str, ...] | None = None
) -> Relation | None:
    fitting = [relation for relation in relations if kinds is None or relation.kind in kinds]
    return fitting[int(rng.integers(len(fitting)))] if fitting else None


def _shuffled(scene: Scene, rng: np.random.Generator) -> list[Placed]:
    return [scene.objects[index] for index in rng.permutation(len(scene.objects))]


def _crowd_words(scene: Scene, *features: str) -> list[str]:
    if scene.crowd is None:
        return []
    phrase = many(described(scene.crowd.look, *features), 2)
    return ["many " + phrase.removeprefix(NUMBERS[2] + " ")]


def _opening(rng: np.random.Generator) -> str:
    return OPENINGS[int(rng.integers(len(OPENINGS)))]


def _inventory(scene: Scene, rng: np.random.Generator) -> str:
    """Name everything with its colour: ``a red circle, two blue stars and many small green hearts``."""
    things = counted([described(placed.look, "colour") for placed in _shuffled(scene, rng)])
    return _opening(rng) + listed(things + _crowd_words(scene, "size", "colour"))


def _counts_and_background(scene: Scene, rng: np.random.Generator) -> str:
    """Name shapes without colours: ``two circles and a star on a plain background``."""
    things = counted([placed.look.shape for placed in _shuffled(scene, rng)]) + _crowd_words(scene, "size")
    opening = ("", "there is " if things[0].split()[0] in ("a", "an") else "there are ")[int(rng.integers(2))]
    return f"{opening}{listed(things)} on {one(scene.background + ' background')}"


def _related(relation: Relation, rng: np.random.Generator, *features: str) -> str:
    words = RELATION_WORDS[relation.kind]
    first = one(described(relation.first.look, *features))
    second = one(described(relation.second.look, *features))
    if first == second:
        second = f"another {second.split(maxsplit=1)[1]}"
    return f"{first} {words[int(rng.integers(len(words)))]} {second}"


def _rest(scene: Scene, mentioned: list[Placed]) -> list[str]:
    """Return the other objects by shape; ``another`` and ``more`` where their shape was mentioned before."""
    others = [placed.look.shape for placed in scene.objects if all(placed is not m for m in mentioned)]
    named = {placed.look.shape for placed in mentioned}
    phrases = []
    for phrase, shape in zip(counted(others), dict.fromkeys(others), strict=True):
        if shape in named:
            number, noun = phrase.split()
            phrase = f"another {noun}" if number in ("a", "an") else f"{number} more {noun}"
        phrases.append(phrase)
    return phrases


def _relation(scene: Scene, relation: Relation | None, rng: np.random.Generator) -> str:
    """Name two objects with their colours and where they stand, or one object and its place."""
    if relation is not None:
        return _related(relation, rng, "colour")
    placed = scene.objects[int(rng.integers(len(scene.objects)))]
    places = places_of(placed, scene.size)
    place = PLACE_WORDS[places[int(rng.integers(len(places)))]]
    return f"{one(described(placed.look, 'colour'))} {place}"


def _details(scene: Scene, rng: np.random.Generator) -> str:
    """Name one object with size, texture and colour, the others by shape."""
    placed = max(_shuffled(scene, rng), key=lambda placed: _num_details(placed.look))
    phrase = described(placed.look, "size", "texture", "colour")
    if _num_details(placed.look) == 0:
        phrase = f"plain {phrase}"
    rest = _rest(scene, [placed]) + _crowd_words(scene, "colour")
    return f"{one(phrase)} with {listed(rest)}" if rest else one(phrase)


def _num_details(look: Look) -> int:
    return (look.size in ("small", "large")) + (look.texture != "plain")


def _second_relation(scene: Scene, relation: Relation | None, rng: np.random.Generator) -> str:
    """Return a relation between shapes, then the rest; how many things there are where none relate."""
    if relation is None:
        return _total(scene, rng)
    rest = _rest(scene, [relation.first, relation.second]) + _crowd_words(scene)
    features = () if rng.random() < 0.5 else ("texture",)
    phrase = _related(relation, rng, *features)
    return f"{phrase}, and {listed(rest)}" if rest else phrase


def _total(scene: Scene, rng: np.random.Generator) -> str:
    """Say how many things there are: ``three shapes: a circle and two stars``."""
    shapes = [placed.look.shape for placed in _shuffled(scene, rng)]
    for crowd in _crowd_words(scene):
        return f"{crowd} with {listed(counted(shapes))}"
    return f"{NUMBERS[len(shapes)]} shapes: {listed(counted(shapes))}"
