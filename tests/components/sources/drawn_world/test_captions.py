"""The captions are five, different, in good English and true."""

import re
from itertools import pairwise

import numpy as np
import pytest

from components.sources.drawn_world.captions import captions_of
from components.sources.drawn_world.compose import SceneStyle, compose
from components.sources.drawn_world.scene import Scene

from .caption_checker import RELATIONS, facts_of, untruths

STYLE = SceneStyle(crowd_share=0.2)


@pytest.fixture(scope="module")
def captioned() -> list[tuple[Scene, list[str]]]:
    pairs = []
    for index in range(500):
        rng = np.random.default_rng([7, index])
        scene = compose(rng, 80, STYLE)
        pairs.append((scene, captions_of(scene, rng)))
    return pairs


def swap_left_and_right(caption: str) -> str:
    return re.sub(r"\b(left|right)\b", lambda found: {"left": "right", "right": "left"}[found[0]], caption)


def test_five_different_captions(captioned):
    assert all(len(captions) == len(set(captions)) == 5 for _, captions in captioned)


def test_every_statement_is_true(captioned):
    for scene, captions in captioned:
        facts = facts_of(scene)
        assert {caption: wrong for caption in captions if (wrong := untruths(caption, facts))} == {}


def test_swapped_captions_are_true_of_the_mirror_image(captioned):
    for scene, captions in captioned:
        facts = facts_of(scene).mirrored()
        for caption in captions:
            assert untruths(swap_left_and_right(caption), facts) == []


def test_the_checker_notices_untruths(captioned):
    """Swapping only the words, or naming another scene's things, is caught nearly always.

    Not where two like things stand side by side: each has a neighbour on the other side.
    """
    swapped = [
        bool(untruths(swap_left_and_right(caption), facts_of(scene)))
        for scene, captions in captioned
        for caption in captions
        if ("left" in caption or "right" in caption) and "another" not in caption
    ]
    others = [
        bool(untruths(caption, facts_of(scene)))
        for (scene, _), (_, captions) in pairwise(captioned)
        for caption in captions
    ]
    assert len(swapped) > 50
    assert np.mean(swapped) > 0.85
    assert np.mean(others) > 0.95


@pytest.mark.parametrize(
    "words",
    [*RELATIONS, "two red", "many small", "background", "another", "more", "in the middle"],
)
def test_the_wording_is_varied(captioned, words):
    assert any(words in caption for _, captions in captioned for caption in captions)


def test_most_objects_are_named_by_their_shape(captioned):
    for scene, captions in captioned:
        shapes = {placed.look.shape for placed in scene.objects}
        naming_all = [c for c in captions if all(shape in c.lower() for shape in shapes)]
        assert len(naming_all) >= 3
