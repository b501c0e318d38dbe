"""What a user sees after `virtex run`: in MLflow and Prefect, in the report, and in the playground.

One file, since `--dist loadfile` would have each of several make the run anew.
"""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .conftest import Run, free_port

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[dev]'")
expect = playwright.expect

pytestmark = pytest.mark.integration

CLASSIFIERS = ["classification@imagenet_linear-virtex", "classification@inaturalist-virtex"]
BENCHMARKS = ["voc07@virtex", *CLASSIFIERS, "caption"]
STAGES = [
    *("datasets", "tokenize", "lmdb@train", "lmdb@val", "pretrain", "select", "baseline@random"),
    *(*BENCHMARKS, "report"),
]


@pytest.fixture(scope="module", autouse=True)
def patience():
    expect.set_options(timeout=60_000)  # milliseconds; the machines are slow at times


def pipeline_run(finished) -> tuple[str, str]:
    """Name and id of the parent run."""
    return next((name, run_id) for name, run_id in finished.runs().items() if name.startswith("tiny · "))


def test_mlflow_lists_the_run_and_below_it_its_stages(finished, page, keep) -> None:
    name, _ = pipeline_run(finished)
    page.goto(f"{finished.mlflow}/#/experiments/{finished.experiment()}/runs")
    cell = page.get_by_role("gridcell").filter(has=page.get_by_role("link", name=name))
    cell.get_by_role("button").click()
    for stage in STAGES:
        expect(page.get_by_role("link", name=stage.replace("@", "/"), exact=True)).to_be_attached()
    keep("mlflow-runs")


def test_mlflow_has_the_results_and_the_stages_of_the_run(finished, page, keep) -> None:
    name, run_id = pipeline_run(finished)
    page.goto(finished.run_page(run_id))
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    expect(page.get_by_text("Finished", exact=True).first).to_be_visible()
    for metric in ("voc07.mAP", "imagenet_linear.top1", "inaturalist.top1", "caption.CIDEr-D"):
        expect(page.get_by_role("link", name=metric, exact=True)).to_be_visible()
    for stage in STAGES:
        expect(page.get_by_role("cell", name=stage, exact=True).first).to_be_attached()
    keep("mlflow-run")


def test_mlflow_keeps_what_the_run_was_made_from_and_its_report(finished, page, keep) -> None:
    _, run_id = pipeline_run(finished)
    page.goto(finished.run_page(run_id, "/artifacts/report/report.html"))
    for file in ("params.yaml", "dvc.lock", "report.json"):
        expect(page.get_by_text(file, exact=True).first).to_be_visible()
    report = page.frame_locator("iframe")
    expect(report.get_by_role("heading", name="What this run learned from captions")).to_be_visible()
    keep("mlflow-report")


def test_mlflow_draws_the_course_of_pretraining(finished, page, keep) -> None:
    page.goto(finished.run_page(finished.runs()["pretrain"], "/model-metrics"))
    for chart in ("captioning_forward", "backbone_lr", "images_per_second"):
        expect(page.get_by_text(chart, exact=True).first).to_be_visible()
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    keep("mlflow-pretraining")


def test_prefect_shows_the_flow_and_each_of_its_stages(finished, page, keep) -> None:
    name, _ = pipeline_run(finished)
    page.goto(f"{finished.prefect}/runs")
    page.get_by_role("link", name=name).first.click()
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible()
    page.wait_for_load_state("networkidle")
    keep("prefect-flow")
    page.get_by_text("Task Runs", exact=True).first.click()
    for stage in STAGES:
        expect(page.get_by_role("link", name=stage, exact=True).first).to_be_attached()
    keep("prefect-stages")


def test_prefect_keeps_the_report_and_the_table_of_stages(finished, page, keep) -> None:
    for artifact, heading in (("stages", None), ("report", "VOC07 average precision by class")):
        page.goto(f"{finished.prefect}/artifacts/key/{artifact}")
        page.locator('a[href^="/artifacts/artifact/"]').first.click()
        if heading:
            expect(page.get_by_role("heading", name=heading)).to_be_visible()
        else:
            expect(page.get_by_text(CLASSIFIERS[0], exact=True).first).to_be_visible()
    keep("prefect-report")


def test_the_page_of_the_report_needs_nothing_from_outside(finished, page, keep) -> None:
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    faults = []
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.goto((finished.root / "outputs/report/report.html").as_uri())
    expect(page.get_by_role("heading", name="What this run learned from captions")).to_be_visible()
    keep("report")
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert faults == []


def test_mlflow_shows_the_registered_backbone_as_the_best(finished, page, keep) -> None:
    page.goto(f"{finished.mlflow}/#/models")
    page.get_by_role("button", name="Try it now").click()  # closes what MLflow tells at the first visit
    page.get_by_role("link", name=re.compile("virtex-backbone-drawn_world-")).first.click()
    version = page.get_by_role("row").filter(has=page.get_by_role("link", name="Version 1", exact=True))
    expect(version).to_contain_text("best")
    expect(version).to_contain_text("VOC07 mAP")
    page.get_by_role("link", name="Version 1", exact=True).click()
    expect(page.get_by_text("pretrained on captions").first).to_be_visible()
    expect(page.get_by_role("link", name="select", exact=True)).to_be_visible()
    keep("mlflow-registry")


@pytest.fixture(scope="module")
def playground(finished: Run, environment: dict[str, str]) -> Iterator[str]:
    """The address of its page with the models of the run."""
    port, log = free_port(), finished.root / "playground.log"
    command = [sys.executable, "-m", "pipelines.cli", "playground", "--port", str(port), "--images", "20"]
    with log.open("w") as output:
        started = subprocess.Popen(
            command, cwd=finished.root, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    limit = time.monotonic() + 180
    while "Ctrl-C stops" not in log.read_text():
        assert started.poll() is None, log.read_text()
        assert time.monotonic() < limit, log.read_text()
        time.sleep(0.2)
    yield f"http://127.0.0.1:{port}"
    started.send_signal(signal.SIGINT)
    assert started.wait(timeout=60) == 130
    assert "Traceback" not in log.read_text()


def test_a_visitor_looks_at_pictures(playground: str, page, keep, tmp_path: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    faults: list[str] = []
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.goto(playground)
    page.get_by_label("words to compare").fill("star, heart")
    page.get_by_label("their sentence").fill("{}")
    page.get_by_alt_text("validation image 0").click()
    captioner, random = page.locator(".model").first, page.locator(".model").nth(1)
    expect(captioner.get_by_alt_text("attention to the picture by word")).to_be_visible(timeout=60_000)
    expect(captioner.locator("table").nth(2)).to_contain_text("heart")
    expect(random).to_contain_text("writes no captions")
    expect(random.locator("figure")).to_have_count(8)
    keep("playground")

    picture = tmp_path / "mine.png"
    Image.fromarray(np.full((50, 60, 3), 99, np.uint8)).save(picture)
    page.locator("#file").set_input_files(picture)
    expect(page.get_by_alt_text("the chosen picture")).to_have_attribute("src", re.compile("^blob:"))
    expect(page.locator("#state")).to_have_text("", timeout=60_000)
    expect(page.locator(".model")).to_have_count(2)

    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff broken")
    page.locator("#file").set_input_files(broken)
    expect(page.locator("#state")).to_contain_text("not an image that can be read", timeout=60_000)
    expect(page.locator(".model")).to_have_count(0)
    assert [url for url in asked if not url.startswith((playground, "blob:", "data:"))] == []
    assert faults == []
