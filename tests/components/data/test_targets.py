import pickle

import numpy as np
import pytest

from components.data.targets import make_targets
from components.text import tokenizer

TOKENS = [1, 101, 102, 103, 2]
EXPECTED = {
    "bicaptioning": {"caption_tokens": TOKENS, "noitpac_tokens": TOKENS[::-1], "caption_lengths": 5},
    "captioning": {"caption_tokens": TOKENS, "caption_lengths": 5},
    "token_classification": {"caption_tokens": TOKENS},
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


def test_an_unknown_task(letters) -> None:
    with pytest.raises(ValueError, match="'bicaption'"):
        make_targets("bicaption", letters, 30)


def test_a_real_tokenizer_fits(tmp_path) -> None:
    tokenizer.train_tokenizer(["a red dog", "a dog on a red mat", "mats and dogs"], 20, tmp_path / "c.model")
    real = tokenizer.CaptionTokenizer(tmp_path / "c.model")
    shown = make_targets("masked_lm", real, 30)("A red dog", (), np.random.default_rng(0))["masked_tokens"]
    assert isinstance(shown, list)
    assert (shown[0], shown[-1]) == (tokenizer.SOS_ID, tokenizer.EOS_ID)
    assert tokenizer.MASK_ID in shown
