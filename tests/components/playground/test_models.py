import base64
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from components.benchmarks.probes.likelihood import Texts, caption_log_probs
from components.captioning.captioner import Captioner
from components.core.errors import InputError
from components.data.image import decode
from components.playground.models import Asked, Known, Player, open_players

PIXELS = np.random.default_rng(7).integers(0, 255, (80, 100, 3), np.uint8)


def test_captions_are_those_of_the_captioner(players: list[Player], captioner: Captioner) -> None:
    asked = Asked(beam_size=4, num_captions=2, top_p=0.8, seed=3)
    answer = players[0].answer(PIXELS, asked, None)
    image = captioner.transform(PIXELS)[None]
    [searched] = captioner.search(image, 4, 2)
    [drawn] = captioner.sample(image, 0.8, 2, torch.Generator().manual_seed(3))
    for found, expected in ((answer.beam, searched), (answer.nucleus, drawn)):
        assert [one.text for one in found] == [one.text for one in expected]
        assert [one.log_probability for one in found] == pytest.approx([c.log_probability for c in expected])
    assert answer.attention is not None
    picture = decode(base64.b64decode(answer.attention.removeprefix("data:image/png;base64,")))
    assert picture.shape[1] > picture.shape[0] > 100


def test_neighbours_look_alike_and_an_image_is_not_its_own(players: list[Player], known: Known) -> None:
    for player in players:
        own = player.answer(decode(known.store.get(2).image), Asked(image=2), known)
        foreign = player.answer(decode(known.store.get(2).image), Asked(), known)
        assert [one.image for one in own.neighbours[:2]] in ([0, 4], [4, 0])
        assert {one.caption.split()[0] for one in own.neighbours[:2]} == {"dark"}
        assert len(own.neighbours) == 5
        assert foreign.neighbours[0].image == 2
        assert foreign.neighbours[0].similarity == pytest.approx(1.0, abs=1e-5)
    assert own.notices
    assert not own.beam


def test_a_word_is_as_likely_as_its_sentence_among_all(players: list[Player], captioner: Captioner) -> None:
    answer = players[0].answer(PIXELS, Asked(words="red, blue , star", prompt="{} circle"), None)
    image = captioner.transform(PIXELS)[None]
    rows = [captioner.tokenizer.caption_tokens(f"a {word} circle", 8) for word in ("red", "blue", "star")]
    sums = torch.zeros(3)
    objective = captioner.objective
    with torch.no_grad():
        for head, own in (
            (objective.textual, rows),
            (objective.backward_textual, [row[::-1] for row in rows]),
        ):
            sums += caption_log_probs(head, captioner.features(image), Texts.of(own, "cpu"))[0]
    expected = dict(zip(("red", "blue", "star"), sums.softmax(dim=0).tolist(), strict=True))
    assert {one.word: one.probability for one in answer.zero_shot} == pytest.approx(expected, rel=1e-4)
    assert sorted(answer.zero_shot, key=lambda one: -one.probability) == answer.zero_shot


def test_words_that_the_model_cannot_spell_or_read_are_told(players: list[Player]) -> None:
    answer = players[0].answer(PIXELS, Asked(words="red, 😀", prompt="{}"), None)
    assert answer.notices == ["Not in this model's vocabulary: 😀."]
    with pytest.raises(InputError, match="has more than the 8 tokens of this model's captions"):
        players[0].answer(PIXELS, Asked(words=f"red, {'left of a star ' * 5}", prompt="{}"), None)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"words": " , ,"}, "at least two to compare"),
        ({"words": "star"}, "at least two to compare"),
        ({"words": "star, star"}, "each once"),
        ({"beam_size": "2"}, "3 captions need a beam of at least 3"),
        ({"prompt": "a picture"}, "no {} in the place of the word"),
        ({"top_p": "nan"}, "top_p"),
        ({"beam_size": "9999"}, "less than or equal to 20"),
        ({"seed": "-1"}, "seed"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_choices_that_make_no_sense_are_refused(chosen: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Asked.model_validate(chosen)


def test_no_words_are_no_mistake() -> None:
    assert Asked.model_validate({"words": "  "}).words == ()


def test_an_authors_checkpoint_plays_too(
    captioner: Captioner, tokenizer_path: Path, backbone_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bicaptioning_R_18.pth"
    torch.save({"model": captioner.objective.state_dict(), "iteration": 7}, path)
    backbone, authors = open_players([str(backbone_path), str(path)], "cpu", tokenizer_path)
    assert authors.name == "bicaptioning_R_18"
    assert authors.answer(PIXELS, Asked(), None).beam
    assert backbone.transform is authors.transform  # both see the same pixels
    with pytest.raises(InputError, match="holds no tokenizer"):
        open_players([str(path)], "cpu", None)
    with pytest.raises(InputError, match="nothing"):
        open_players([str(tmp_path / "nothing.safetensors")], "cpu", None)
