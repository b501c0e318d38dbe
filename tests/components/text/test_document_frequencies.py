from pathlib import Path

import numpy as np
import pytest

from components.core.caption_tokens import SOS_ID
from components.core.errors import InputError
from components.text.document_frequencies import idf, read_weights, write_frequencies
from components.text.tokenizer import CaptionTokenizer, train_tokenizer

CAPTIONS = ["a dog", "a dog on a dog", "a cat, = and a dog", "a mat"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> CaptionTokenizer:
    train_tokenizer(CAPTIONS, 26, tmp_path / "captions.model")
    return CaptionTokenizer(tmp_path / "captions.model")


def test_weights_of_ten_captions() -> None:
    counts = np.array([0, 10, 10, 0, 1, 5, 10])
    found = idf(counts)
    assert found[4] == pytest.approx(1.70475, abs=1e-5)
    assert found[5] == pytest.approx(0.60614, abs=1e-5)
    assert found[6] == found[SOS_ID] == found[2] == 0.0  # in every caption
    assert found[4:6] / found[4:6].sum() == pytest.approx([0.73770, 0.26230], abs=1e-5)


def test_a_caption_counts_once_and_as_it_is_cut(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "frequencies.csv"
    write_frequencies(path, tokenizer, CAPTIONS, 30)
    weights = read_weights(path, tokenizer.vocab_size)
    tokens = [set(tokenizer.caption_tokens(caption, 30)) for caption in CAPTIONS]
    counts = [sum(index in each for each in tokens) for index in range(26)]
    assert weights == pytest.approx([np.log(5 / (count + 1)) for count in counts])
    assert weights[1] == weights[2] == 0.0
    write_frequencies(path, tokenizer, CAPTIONS, 4)
    cut = read_weights(path, tokenizer.vocab_size)
    assert cut[1] == 0.0
    assert cut[2] > 0.0  # some captions lose their [EOS]


def test_files_that_do_not_fit_are_refused(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "frequencies.csv"
    with pytest.raises(InputError, match=r"frequencies\.csv: no such file.*tokenize stage"):
        read_weights(path, 26)
    write_frequencies(path, tokenizer, CAPTIONS, 30)
    with pytest.raises(InputError, match="frequencies of 27 pieces"):
        read_weights(path, 27)
    path.write_text(path.read_text().replace(",4\n", ",many\n"))
    with pytest.raises(InputError, match="run the tokenize stage again"):
        read_weights(path, 26)
