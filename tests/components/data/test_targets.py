import math
import pickle
from collections import Counter

import numpy as np
import pytest

from components.core.caption_tokens import EOS_ID, MASK_ID, SOS_ID
from components.data.targets import make_targets, mask_tokens
from components.text import tokenizer

TOKENS = [1, 101, 102, 103, 2]
EXPECTED = {
    "bicaptioning": {"caption_tokens": TOKENS, "noitpac_tokens": TOKENS[::-1], "caption_lengths": 5},
    "captioning": {"caption_tokens": TOKENS, "caption_lengths": 5},
    "parallel_captioning": {"caption_tokens": TOKENS, "caption_lengths": 5, "parallel": 0},
    "parallel_bicaptioning": {
        "caption_tokens": TOKENS,
        "noitpac_tokens": TOKENS[::-1],
        "caption_lengths": 5,
        "parallel": 0,
    },
    "contrastive": {"caption_tokens": TOKENS, "caption_lengths": 5},
    "contrastive_classification": {"caption_tokens": TOKENS, "caption_lengths": 5},
    "token_classification": {"caption_tokens": TOKENS},
    "idf_token_classification": {"caption_tokens": TOKENS},
    "multilabel_classification": {"labels": [2, 7]},
}


@pytest.mark.parametrize("objective", EXPECTED)
def test_each_task_gets_what_it_reads_and_no_more(objective: str, letters) -> None:
    targets = pickle.loads(pickle.dumps(make_targets(objective, letters, 8)))
    assert targets("abc", (2, 7), np.random.default_rng(0)) == EXPECTED[objective]


def test_masked_tokens_come_from_the_generator_alone(letters) -> None:
    targets = make_targets("masked_lm", letters, 30)
    made = [targets("a long caption of letters", (), np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert set(made[0]) == {"masked_tokens", "masked_labels", "caption_lengths"}
    assert made[0]["caption_lengths"] == 27
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize("objective", ["parallel_captioning", "parallel_bicaptioning"])
def test_the_number_of_parallel_captions_is_binomial(objective: str, letters) -> None:
    def drawn(share: float) -> list[int]:
        targets = make_targets(objective, letters, 8, share)
        return [targets("a dog", (), np.random.default_rng(seed))["parallel"] for seed in range(4000)]

    numbers = np.array(drawn(0.75)).reshape(100, 40).sum(axis=1)
    assert numbers.mean() == pytest.approx(30, abs=4 * np.sqrt(7.5 / 100))
    assert numbers.var() == pytest.approx(7.5, rel=0.6)
    assert (sum(drawn(0.0)), sum(drawn(1.0))) == (0, 4000)


def test_an_unknown_task(letters) -> None:
    with pytest.raises(ValueError, match="'bicaption'"):
        make_targets("bicaption", letters, 30)


def test_a_real_tokenizer_fits(tmp_path) -> None:
    tokenizer.train_tokenizer(["a red dog", "a dog on a red mat", "mats and dogs"], 20, tmp_path / "c.model")
    real = tokenizer.CaptionTokenizer(tmp_path / "c.model")
    shown = make_targets("masked_lm", real, 30)("A red dog", (), np.random.default_rng(0))["masked_tokens"]
    assert isinstance(shown, list)
    assert (shown[0], shown[-1]) == (SOS_ID, EOS_ID)
    assert MASK_ID in shown


VOCAB_SIZE = 40


def captions(num_inner: int) -> list[int]:
    return [1, *(4 + index % 30 for index in range(num_inner)), 2]


@pytest.mark.parametrize("num_inner", [1, 2, 6, 7, 13, 14, 20, 28])
def test_how_many_and_which_tokens(num_inner: int) -> None:
    tokens = captions(num_inner)
    expected = math.ceil(round(0.15 * num_inner, 9))
    places: Counter[int] = Counter()
    most = 0
    for seed in range(200):
        shown, labels = mask_tokens(tokens, VOCAB_SIZE, np.random.default_rng(seed))
        assert len(shown) == len(labels) == len(tokens)
        assert (shown[0], shown[-1], labels[0], labels[-1]) == (1, 2, 0, 0)
        changed = [place for place in range(len(tokens)) if shown[place] != tokens[place]]
        assert len(changed) <= expected
        most = max(most, len(changed))
        for place in changed:
            assert labels[place] == (tokens[place] if shown[place] == 3 else 0)
        assert all(label == 0 for place, label in enumerate(labels) if place not in changed)
        places.update(changed)
    assert most == expected
    assert set(places) == set(range(1, num_inner + 1))


def test_shares_of_the_chosen() -> None:
    """Two of nine tokens are chosen; random ones are never special and are never to be predicted."""
    rng = np.random.default_rng(5)
    tokens = [1, *[39] * 9, 2]
    fates: Counter[str] = Counter()
    for _ in range(4000):
        shown, labels = mask_tokens(tokens, VOCAB_SIZE, rng)
        masked = shown.count(3)
        others = [token for token in shown[1:-1] if token not in (3, 39)]
        assert all(4 <= token < VOCAB_SIZE for token in others)
        assert labels.count(39) == masked
        fates.update({"masked": masked, "random": len(others), "kept": 2 - masked - len(others)})
    assert fates["masked"] / 8000 == pytest.approx(0.85, abs=0.015)
    assert fates["random"] / 8000 == pytest.approx(0.10 * 35 / 36, abs=0.012)  # one in 36 draws the same
    assert fates["kept"] > 300


def test_a_single_chosen_token_is_always_hidden() -> None:
    for seed in range(300):
        shown, labels = mask_tokens([1, 8, 9, 2], VOCAB_SIZE, np.random.default_rng(seed))
        assert shown.count(3) == 1
        assert labels.count(0) == 3


@pytest.mark.parametrize("tokens", [[1, 2], [1]])
def test_nothing_to_hide(tokens: list[int]) -> None:
    assert mask_tokens(tokens, VOCAB_SIZE, np.random.default_rng(0)) == (tokens, [0] * len(tokens))


def test_the_caption_itself_stays() -> None:
    tokens = captions(20)
    mask_tokens(tokens, VOCAB_SIZE, np.random.default_rng(0))
    assert tokens == captions(20)
