import re
from html.parser import HTMLParser

import numpy as np
import pytest

from components.report.html import CaptionedPicture, captions_page, choose_examples


def picture(caption: str, references: tuple[str, ...] = ("a cat",), cider: float = 12.5) -> CaptionedPicture:
    pixels = np.full((600, 900, 3), 128, np.uint8)
    return CaptionedPicture("coco/7", pixels, caption, -3.25, cider, references)


class Balance(HTMLParser):
    """Collects the tags, and fails where one is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "line"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parse(page: str) -> Balance:
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    return balance


def test_page_holds_picture_caption_scores_and_references() -> None:
    page = captions_page(
        "Captions of coco",
        {"CIDEr-D": 47.25, "BLEU-4": 9.0},
        "2 captions differ",
        [1.0, 2.0, 300.0],
        {"Best": [picture("a dog runs", ("one dog", "two dogs"))], "Nothing": []},
    )
    tags = parse(page).seen
    images = [attributes["src"] or "" for tag, attributes in tags if tag == "img"]
    assert len(images) == 1
    assert images[0].startswith("data:image/jpeg;base64,")
    assert len(images[0]) < 20_000
    for text in (
        "a dog runs",
        "one dog",
        "two dogs",
        "2 captions differ",
        "coco/7",
        "47.2",
        "9.0",
        "-3.2",
        "12",
        "<h2>Best</h2>",
        "3 ",
    ):
        assert text in page
    assert "Nothing" not in page
    assert sum(tag == "rect" for tag, _ in tags) == 24


def test_page_fetches_nothing_and_runs_nothing() -> None:
    page = captions_page("t", {"CIDEr-D": 1.0}, "", [1.0], {"Best": [picture("x")]})
    tags = parse(page).seen
    assert not {tag for tag, _ in tags} & {"script", "link", "iframe", "object"}
    assert not re.search(r"https?://|url\(|@import", page)


def test_text_is_escaped_everywhere() -> None:
    nasty = "<script>alert('x')</script> & \"quoted\" $title"
    page = captions_page(nasty, {nasty: 1.0}, nasty, [1.0], {nasty: [picture(nasty, (nasty,))]})
    parse(page)
    assert "<script>" not in page
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &#34;quoted&#34; $title") == 8


def test_page_without_captions_is_a_page() -> None:
    assert "No captions: why" in captions_page("No captions: why", {}, "", [], {})
    parse(captions_page("No captions: why", {}, "", [], {}))


def test_equal_scores_give_a_page() -> None:
    parse(captions_page("t", {}, "", [0.0, 0.0], {"Worst": [picture("", cider=0.0)]}))


def test_examples_are_the_best_the_middle_and_the_worst() -> None:
    ranking = choose_examples([float(value) for value in range(100)], 9)
    assert ranking.best == [99, 98, 97]
    assert ranking.typical == [51, 50, 49]
    assert ranking.worst == [0, 1, 2]


@pytest.mark.parametrize("num_scores", range(1, 14))
@pytest.mark.parametrize("num_examples", [1, 2, 6, 7, 30])
def test_no_example_is_shown_twice(num_scores: int, num_examples: int) -> None:
    ranking = choose_examples([1.0] * num_scores, num_examples)
    chosen = [*ranking.best, *ranking.typical, *ranking.worst]
    assert len(chosen) == len(set(chosen)) == min(num_scores, num_examples)
    assert set(chosen) <= set(range(num_scores))
