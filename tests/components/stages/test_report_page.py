"""report.html: what is on it, that it is safe, and that it needs nothing else."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from whole_report import BACKBONES, NASTY, write, write_everything

from components import params
from components.core import paths
from components.report.render import value_at
from components.report.words import FORMS
from components.stages import report as stage
from components.tracking import StageRun

REPOSITORY = Path(__file__).resolve().parents[3]
VOID = {"meta", "link", "img", "br", "use", "path", "rect", "image", "stop"}
FETCHING = {"src", "srcset", "href", "xlink:href", "poster", "action", "data", "style"}


@dataclass
class Page(HTMLParser):
    """What a test asks of a page."""

    text: str = ""
    numbers: list[tuple[str, str, str]] = field(default_factory=list)  # address, form, shown
    loose_numbers: list[str] = field(default_factory=list)  # in cells, from nowhere; not parameters, versions
    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    open: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in given.items()]
        if tag not in VOID:
            self.open.append((tag, given))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop()[0] == tag, f"{tag} closes what it did not open"

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self.open]
        if "style" in tags:
            return
        self.text += data
        _, given = self.open[-1] if self.open else ("", {})
        if "data-json" in given:
            self.numbers.append((given["data-json"], given["data-form"], data))
        elif {"td", "dd"} & set(tags) and "details" not in tags and given.get("class") != "text":
            self.loose_numbers += re.findall(r"^\s*[-+]?\d[\d,.:]*\s*$", data)


def begin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> StageRun:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("VIRTEX_DEVICE", "cpu")
    (folder / "params.yaml").write_bytes((REPOSITORY / "params.yaml").read_bytes())
    (folder / "presets").symlink_to(REPOSITORY / "presets")
    paths.REPORT_DIR.mkdir(parents=True)
    return StageRun("report", None, paths.REPORT_DIR, None)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StageRun:
    return begin(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, dict[str, Any], str]:
    """The page of a run with all results."""
    with pytest.MonkeyPatch.context() as patch:
        run = begin(tmp_path_factory.mktemp("whole"), patch)
        write_everything()
        return make_page(run)


def make_page(run: StageRun) -> tuple[Page, dict[str, Any], str]:
    sections = [params.read_section(section) for section in stage.SECTIONS]
    asked = params.Benchmarks(
        backbones=list(BACKBONES), detection_backbones=list(BACKBONES), detection_memory_heavy=True
    )
    stage.main(run, *(asked if isinstance(one, params.Benchmarks) else one for one in sections))
    text = (run.output_dir / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert not page.open
    return page, json.loads((run.output_dir / "report.json").read_text(encoding="utf-8")), text


def fetched(page: Page) -> Iterator[str]:
    """What a browser would get or run; links are followed by people alone."""
    for tag, name, value in page.attributes:
        if name.startswith("on"):
            yield f"{tag} {name}"
        if name in FETCHING and tag != "a" and not value.startswith(("data:", "#")):
            yield from re.findall(r"https?:|//|url\((?!#|.?data:)", value)


def test_every_number_on_the_page_is_in_report_json(whole: tuple[Page, dict[str, Any], str]) -> None:
    page, report, _ = whole
    assert len(page.numbers) > 120
    assert not page.loose_numbers
    for address, form, shown in page.numbers:
        assert FORMS[form](value_at(report, address)) == shown, address
    addresses = {address for address, *_ in page.numbers}
    for order, result in enumerate(report["results"]):
        keys = ("published", "imagenet", "published_difference", "imagenet_difference")
        figures = {key: result[key] for key in keys}
        figures |= {f"figures/{name}": of for name, of in result["figures"].items()}
        figures |= {f"differences/{name}": of for name, of in result["differences"].items()}
        known = {f"/results/{order}/{key}/value" for key, of in figures.items() if of["value"] is not None}
        assert known <= addresses, f"{result['row_title']} is not all on the page"


def test_text_is_escaped(whole: tuple[Page, dict[str, Any], str]) -> None:
    page, _, text = whole
    assert "script" not in page.tags
    assert "<script" not in text
    assert "<b>0</b>" not in text
    assert page.text.count(NASTY) >= 6  # in a caption, references, the data
    assert page.text.count("</text><script>a…") + page.text.count("</text><script>al…") >= 4  # in charts


def test_nothing_is_fetched(whole: tuple[Page, dict[str, Any], str]) -> None:
    page, _, text = whole
    assert list(fetched(page)) == []
    assert not {"script", "iframe", "object", "embed", "base"} & set(page.tags)
    assert "@import" not in text
    assert page.tags.count("img") == 5  # four captioned images that the store has, one of detections
    assert page.tags.count("svg") >= 13
    assert len(text) < 1_000_000


def test_words_of_the_page(whole: tuple[Page, dict[str, Any], str]) -> None:
    page, report, _ = whole
    flat = " ".join(page.text.split())
    assert "beats the random one on VOC07: 61.1 against 60.1 mAP (+1.0)" in flat
    assert "Not comparable with the paper's figures. They are" in flat
    assert "Captioning (SPICE): not run: CoreNLP is not installed" in flat
    assert "(no words)" in flat
    assert report["preset"] == "demo"
    assert "VirTex report · preset demo" in flat
    names = {(one["section"], one["key"]) for one in report["protocol"]["differences"]}
    assert {("schedule", "iterations"), ("coco_segmentation", "engine")} <= names
    assert ("pretrain", "log_every") not in names
    assert "warmup_iterations3010,000" in flat  # three cells of a row


def test_nothing_has_run(run: StageRun) -> None:
    page, report, _ = make_page(run)
    flat = " ".join(page.text.split())
    assert "Whether pretraining helped is not known" in flat
    assert not page.loose_numbers
    assert {address.split("/")[1] for address, *_ in page.numbers} == {"results", "setup"}
    assert page.tags.count("svg") == page.tags.count("img") == 0
    assert "LVIS segmentation of VirTex and Random: not run" in flat
    assert "outputs/pretrain/train.csv is missing" in report["missing"]
    assert not any("detections.png" in text for text in report["missing"])


BROKEN = {
    "pretrain/train.csv": "iteration,loss\n1,nan\n",
    "select/checkpoints.csv": "iteration\n3\n",
    "benchmarks/voc07/virtex/precision_recall.csv": "recall,precision\nx,y\n",
    "benchmarks/imagenet_linear/virtex/classes.csv": "class,top1\nowl,much\n",
    "benchmarks/inaturalist/random/metrics.json": "[]",
    "benchmarks/coco_segmentation/virtex/metrics.json": '{"box": {"AP": NaN}}',
    "benchmarks/coco_segmentation/virtex/detections.png": "no picture",
    "caption/captions.json": '[{"caption": 3}]',
    "datasets/metrics.json": "{",
}


def test_broken_files_are_named_and_the_rest_is_there(run: StageRun) -> None:
    write_everything()
    for name, content in BROKEN.items():
        write(paths.OUTPUTS_DIR / name, content)
    page, report, _ = make_page(run)
    said = "\n".join([*report["missing"], *report["problems"]])
    for name in BROKEN:
        assert f"outputs/{name}" in said, name
    flat = " ".join(page.text.split())
    assert "outputs/select/checkpoints.csv cannot be read" in flat
    assert "beats the random one" in flat
    assert not page.loose_numbers
    assert page.tags.count("svg") >= 8
