"""Pages full of strangers' texts in a browser: nothing runs or is fetched, and no text breaks the layout."""

import json
from pathlib import Path

import numpy as np
import pytest
from hostile_texts import TEXTS
from markdown_it import MarkdownIt
from whole_report import BACKBONES, write_everything

from components import params
from components.core import paths
from components.report.html import CaptionedPicture, captions_page
from components.stages import report
from components.tracking import StageRun

pytestmark = pytest.mark.integration

REPOSITORY = Path(report.__file__).parents[2]
WIDTHS = (1500, 390)  # pixels; a phone's
LOOK = """() => ({
    ran: document.documentElement.dataset.ran || null,
    scripts: document.querySelectorAll('script, iframe, object, embed, base, form').length,
    handlers: [...document.querySelectorAll('*')].flatMap(
        (element) => element.getAttributeNames().filter((name) => name.startsWith('on'))),
    links: [...document.querySelectorAll('a[href]')].map((link) => link.getAttribute('href')).filter(
        (link) => /^\\s*(javascript|data|vbscript):/i.test(link)),
    hidden: getComputedStyle(document.body).display === 'none',
    clipped: [...document.querySelectorAll('article, .card, dl, li')].filter(
        (element) => element.scrollWidth > element.clientWidth + 1).length,
    tooWide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
})"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report, the page of captions, and the report in Markdown as a server would show it."""
    root = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("VIRTEX_DEVICE", "cpu")
        (root / "presets").mkdir()
        written = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
        (root / "params.yaml").write_text(written, encoding="utf-8")
        (root / "presets" / "<img src=x onerror=document.documentElement.dataset.ran=1>.yaml").write_text(
            "pretrain: {seed: 0}\n"
        )
        write_everything(TEXTS)
        paths.REPORT_DIR.mkdir(parents=True)
        sections = [params.read_section(section) for section in report.SECTIONS]
        asked = params.Benchmarks(backbones=list(BACKBONES), detection_backbones=list(BACKBONES))
        run = StageRun("report", None, paths.REPORT_DIR, None)
        report.main(run, *(asked if isinstance(one, params.Benchmarks) else one for one in sections))
    pixels = np.full((60, 80, 3), 128, np.uint8)
    pictures = [CaptionedPicture(text, pixels, text, -1.5, 12.5, (text, "a cat")) for text in TEXTS]
    (root / "captions.html").write_text(
        captions_page(TEXTS[0], dict.fromkeys(TEXTS, 1.0), [1.0, 2.0], {TEXTS[0]: pictures}),
        encoding="utf-8",
    )
    markdown = (root / paths.REPORT_DIR / "report.md").read_text(encoding="utf-8")
    shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)
    (root / "markdown.html").write_text(f"<!doctype html><meta charset=utf-8>{shown}", encoding="utf-8")
    return root


@pytest.mark.parametrize("name", ["outputs/report/report.html", "captions.html", "markdown.html"])
def test_nothing_runs_and_nothing_breaks(pages, page, keep, name) -> None:
    asked: list[str] = []
    faults: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto((pages / name).as_uri())
        for summary in page.locator("summary").all():
            summary.click()
        seen = page.evaluate(LOOK)
        keep(f"hostile-{Path(name).stem}-{width}")
        layout = {seen.pop("clipped"), seen.pop("tooWide")}
        assert seen == {"ran": None, "scripts": 0, "handlers": [], "links": [], "hidden": False}
        assert layout == {0} or name == "markdown.html"  # whose layout is the server's affair
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert [url for url in asked if url.startswith("file:")] == [(pages / name).as_uri()] * len(WIDTHS)
    assert faults == []


def test_report_json_has_them_as_they_are(pages) -> None:
    found = json.loads((pages / "outputs/report/report.json").read_text(encoding="utf-8"))
    assert found["captions"][0]["references"][1:] == list(TEXTS)
