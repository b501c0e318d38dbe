"""The playground's page with the models of a finished run, as a visitor uses it."""

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


@pytest.fixture(scope="module")
def playground(finished: Run, environment: dict[str, str]) -> Iterator[str]:
    """Its address."""
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
