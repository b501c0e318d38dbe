import tracemalloc

import pytest

from components.text.tokenizer import CaptionTokenizer, caption_figures, readable_sample, train_tokenizer


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> CaptionTokenizer:
    """A tokenizer of single letters: special pieces, the word mark, a, b, c."""
    path = tmp_path_factory.mktemp("tokenizer") / "captions.model"
    train_tokenizer(["a", "b", "c"], 8, path)
    return CaptionTokenizer(path)


def test_figures(letters: CaptionTokenizer) -> None:
    captions = ["a", "b", "abc", "abcab" + "z"]  # with the word mark and both ends: 4, 4, 6 and 9 tokens
    figures = caption_figures(letters, captions, max_caption_length=6)
    assert figures.lengths == [(4, 2), (5, 0), (6, 1), (7, 0), (8, 0), (9, 1)]
    assert figures.metrics == {
        "captions": 4,
        "tokens_mean": 23 / 4,
        "tokens_p50": 5.0,
        "tokens_p95": pytest.approx(6 + 0.85 * 3),
        "tokens_max": 9,
        "truncated_share": 0.25,
        "unknown_rate": pytest.approx(1 / 15),
    }


def test_figures_keep_no_caption(letters: CaptionTokenizer) -> None:
    tracemalloc.start()
    try:
        figures = caption_figures(letters, (f"abc{'ab' * (n % 9)}" for n in range(30_000)), 30)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert figures.metrics["captions"] == 30_000
    assert most < 30_000 * 40  # bytes; the ids of these captions alone would be 150 each


def test_only_blank_captions_have_no_unknown_pieces(letters: CaptionTokenizer) -> None:
    figures = caption_figures(letters, [""], max_caption_length=30)
    assert figures.metrics["unknown_rate"] == 0.0
    assert figures.lengths == [(2, 1)]


def test_sample_shows_what_is_cut(letters: CaptionTokenizer) -> None:
    text = readable_sample(letters, ["A\n", "c", "Ábc", "b"], max_caption_length=4, num_captions=2)
    assert text == "A\n  [SOS] ▁ a [EOS]\n\nÁbc\n  [SOS] ▁ a b   cut off: c [EOS]\n"


def test_sample_holds_unknown_text_as_written(letters: CaptionTokenizer) -> None:
    assert readable_sample(letters, ["a犬"], 30) == "a犬\n  [SOS] ▁ a 犬 [EOS]\n"
