"""A figure is one record, and each format writes it in one place."""

from dataclasses import asdict

import pytest

from components.report.render import Numbers
from components.report.results import Figure
from components.report.words import figure_text

FIGURES = [
    (Figure(61.04), "61.0", "61.0"),
    (Figure(88.7, mark="*"), "88.7*", "88.7*"),
    (Figure(-0.04, "points"), "0.0", "0.0"),
    (Figure(14.58, "points", low=9.96, high=18.2), "+14.6 [+10.0, +18.2]", "+14.6 [+10.0, +18.2]"),
    (Figure(), "–", "–"),
    (Figure(remark="not run: no `lvis` data"), "not run", "not run: no `lvis` data>not run"),
    (Figure(remark="x.json cannot be read"), "failed", "x.json cannot be read>failed"),
    (Figure(53.8, remark="not comparable: a & b"), "53.8", "not comparable: a &amp; b>53.8"),
]


@pytest.mark.parametrize(("figure", "text", "words_of_page"), FIGURES)
def test_a_figure_as_text_and_on_the_page(figure: Figure, text: str, words_of_page: str) -> None:
    report = {"row": {"figures": {"virtex": asdict(figure)}}}
    assert figure_text(report["row"]["figures"]["virtex"]) == text
    html = Numbers(report).figure("row", "figures", "virtex")
    title, _, rest = html.removeprefix("<span").partition(">")
    remark = title.partition('title="')[2].removesuffix('"')
    shown = "".join(part.partition(">")[2] for part in f">{rest}".replace("<", "\0<").split("\0"))
    assert (f"{remark}>{shown}" if remark else shown) == words_of_page
    if figure.low is not None:
        for end in ("value", "low", "high"):
            assert f'data-json="/row/figures/virtex/{end}" data-form="points"' in html


def test_a_difference_needs_both_figures() -> None:
    assert Figure(60.0).minus(Figure(45.5)) == Figure(14.5, "points")
    assert Figure(60.0).minus(Figure(remark="not run")) == Figure(unit="points")
    assert Figure().minus(None) == Figure(unit="points")


def test_what_no_backbone_has_is_a_dash() -> None:
    assert figure_text(None) == "–"
    assert "–" in Numbers({}).figure("results", 0, "figures", "authors")
