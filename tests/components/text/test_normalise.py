import pytest

from components.text.normalise import normalise


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A Dog", "a dog"),
        ("the SEÑOR's café", "the senor's cafe"),
        ("ａ ½ ﬁeld", "a 1⁄2 field"),
        ("e\u0301\u0327", "e"),
        ("İ", "i"),
        ("犬 🐕", "犬 🐕"),
        ("  two\n", "  two\n"),
    ],
)
def test_lower_case_without_marks(caption: str, expected: str) -> None:
    assert normalise(caption) == expected
