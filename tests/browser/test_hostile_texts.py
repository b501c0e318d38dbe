"""Pages full of strangers' texts in a browser: nothing runs or is fetched, and no text breaks the layout."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hostile_texts import RUN, TEXTS
from markdown_it import MarkdownIt
from whole_report import BACKBONES, write_everything

from components import params
from components.core import paths
from components.report.html import CaptionedPicture, captions_page
from components.stages import report
from components.tracking import StageRun

from .conftest import shown

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
        asked = params.Benchmarks(
            backbones=list(BACKBONES), detection_backbones=list(BACKBONES), detection_memory_heavy=True
        )
        run = StageRun("report", None, paths.REPORT_DIR, None)
        report.main(run, *(asked if isinstance(one, params.Benchmarks) else one for one in sections))
    pixels = np.full((60, 80, 3), 128, np.uint8)
    pictures = [CaptionedPicture(text, pixels, text, -1.5, 12.5, (text, "a cat")) for text in TEXTS]
    (root / "captions.html").write_text(
        captions_page(TEXTS[0], dict.fromkeys(TEXTS, 1.0), TEXTS[0], [1.0, 2.0], {TEXTS[0]: pictures}),
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


# A run with strangers' texts wherever the pipeline hands some on, and elsewhere.
RECORD = """
import sys
from pathlib import Path

from prefect import flow, get_run_logger

from components.tracking import stage_run
from components.tracking.datasets import UsedDataset
from components.tracking.pipeline_run import table_row
from hostile_texts import TEXTS
from pipelines.prefect_runs import publish
from pipelines.record import open_record
from pipelines.run import final_state

root = Path.cwd()
record = open_record(root, TEXTS[6], {"preset": TEXTS[1], "set": list(TEXTS)})
with stage_run("caption", None, {"caption": {"words": list(TEXTS)}}) as run:
    run.text("\\n".join(TEXTS), "captions.txt")
    run.uses(*(UsedDataset(text[:100], "0" * 64, "training", text) for text in TEXTS))
    run.artifact(root / "captions.html", "page")
table = [table_row(root, text[:100], (), "failed", 1.0, None) for text in TEXTS]
record.close(table, "failed", root / "outputs" / "report")


@flow(name="virtex", flow_run_name=TEXTS[0], description=TEXTS[1])
def hostile():
    for text in TEXTS:
        get_run_logger().info(text)
    publish(root, table, record.report_page, True)
    return final_state("failed", TEXTS)


print(hostile(return_state=True).state_details.flow_run_id, record.run_id, run.run_id)
"""
IS_SHOWN = 60  # seconds at most until a text is there


@pytest.mark.slow
def test_nothing_runs_on_the_pages_of_mlflow_and_prefect(pages, environment, page, keep) -> None:
    places = {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"}
    with shown(pages, environment | places) as run:
        api = {"PREFECT_API_URL": f"{run.prefect}/api", "VIRTEX_DEVICE": "cpu"}
        done = subprocess.run(
            [sys.executable, "-c", RECORD],
            cwd=pages,
            env=environment | places | api,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        flow_run, parent, stage = done.stdout.split()[-3:]
        told: list[str] = []
        page.on("request", lambda request: told.extend([request.url] * ("192.0.2.1" in request.url)))
        page.on("dialog", lambda dialog: told.append(dialog.message))
        for number, address in enumerate(
            (
                run.run_page(parent),
                run.run_page(stage),
                run.run_page(stage, "/artifacts/captions.txt"),
                run.run_page(stage, "/artifacts/page/captions.html"),
                run.run_page(parent, "/artifacts/report/report.html"),
                run.run_page(parent, "/artifacts/report/report.md"),
                f"{run.prefect}/runs",
                f"{run.prefect}/runs/flow-run/{flow_run}",
                *(f"{run.prefect}/artifacts/key/{key}" for key in ("stages", "report")),
            )
        ):
            page.goto("about:blank")  # MLflow keeps what it shows of one run where only the run is another
            page.goto(address)
            if address.endswith("/key/report"):
                page.locator('a[href^="/artifacts/artifact/"]').first.click()
            found = look(page)
            keep(f"hostile-servers-{number}")
            told += [f"{address}: {found}"] if found else []
        assert told == []


def look(page) -> str | None:
    """What is wrong with the page, once a stranger's text is there as text and had time to do its worst."""
    for _ in range(IS_SHOWN):
        page.wait_for_timeout(1000)
        if any(RUN in frame.evaluate("() => document.body.innerText") for frame in page.frames):
            break
    else:
        return "shows none of the texts"
    page.wait_for_timeout(3000)
    ran = [frame.url for frame in page.frames if frame.evaluate("() => document.documentElement.dataset.ran")]
    return f"a text has run in {ran}" if ran else None
