import csv
import io
import unicodedata
from pathlib import Path

import pytest
from hostile_texts import FORMULAS, HALF, MARKUP, TERMINAL, TEXTS
from markdown_it import MarkdownIt

from components.core.files import write_csv
from components.core.foreign_text import from_table_cell, markdown_text, printable, said, table_cell
from components.export import model_card
from components.report.render import bullets, table, wrap

SPREADSHEET = tuple("=+-@\t\r\uff1d")
PLAIN = [
    "a dog, 50 % of it", "C:\\photos\\a b.jpg", "é 日本 👩\u200d👧 नमस्ते", "64 < 72, [1, 2] (x) *", "x_y-z~0",
]  # fmt: skip


@pytest.mark.parametrize("text", [*TEXTS, HALF])
def test_terminals_get_one_line_and_obey_nothing(text: str) -> None:
    shown = printable(text)
    assert shown.splitlines() == [shown]
    assert not [sign for sign in shown if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp")]
    assert not {*"\u202e\u2066\u200f"} & {*shown}
    assert printable(shown) == shown
    shown.encode()


@pytest.mark.parametrize("text", PLAIN)
def test_ordinary_texts_stay(text: str) -> None:
    assert printable(text) == markdown_text(text) == table_cell(text) == text


def test_messages_keep_their_lines_and_lose_secrets() -> None:
    assert said("a\n\tb \x1b[31m http://me:pw@host/x") == "a\n\tb \\x1b[31m http://host/x"
    assert [printable(text) for text in TERMINAL[:2]] == ["\\x1b[2J\\x1b[31mred", "\\x1b]0;title\\x07"]


def rendered(text: str) -> list[str]:
    """The kinds of all that Markdown makes of a text."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    return [token.type for outer in tokens for token in (outer, *(outer.children or []))]


def inline(text: str) -> str:
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    return "".join(one.content for token in tokens for one in (token.children or []))


@pytest.mark.parametrize("text", [*TEXTS, HALF])
def test_markdown_makes_nothing_of_them(text: str) -> None:
    kinds = rendered(table(["Class", "AP"], [[text, "1.0"], ["dog", "2.0"]]))
    assert kinds.count("tr_open") == 3
    assert kinds.count("td_open") == 4
    running = rendered(f"{wrap(f'Said of {text}: nothing.')}\n\n{bullets([text, f'and {text}'])}\n")
    assert running.count("list_item_open") == 2
    assert not {"html_inline", "html_block", "link_open", "image"} & {*kinds, *running}
    assert not {"heading_open", "blockquote_open", "hr", "table_open"} & {*running}


def test_markdown_shows_them_as_they_are() -> None:
    for text in (*PLAIN, *MARKUP):
        as_text = text.replace("&lt;b&gt;", "<b>").strip()
        assert inline(table(["Class"], [[text]])) == f"Class{as_text}" or "*" in text


@pytest.mark.parametrize("text", TEXTS)
def test_model_cards(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    metadata = {"architecture": "resnet50", "feature_size": "2048", "source": "mine", "weights": text}
    _, _, body = model_card.model_card(metadata, text).split("---\n", 2)
    assert not {"html_inline", "html_block", "link_open", "image"} & {*rendered(body)}


@pytest.mark.parametrize("text", FORMULAS)
def test_spreadsheets_compute_nothing(text: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", ("class", "ap"), [(text, -0.5), (f"dog {text}", "-1.5e-3")])
    written = (tmp_path / "x.csv").read_bytes().decode()
    _, first, second = csv.reader(io.StringIO(written, newline=""))
    assert not first[0].startswith(SPREADSHEET)
    assert first[1:] + second[1:] == ["-0.5", "-1.5e-3"]
    assert (from_table_cell(first[0]), second[0]) == (printable(text), printable(f"dog {text}"))


@pytest.mark.parametrize("text", TEXTS)
def test_cells_are_read_back(text: str) -> None:
    assert from_table_cell(str(table_cell(text))) == printable(text)
