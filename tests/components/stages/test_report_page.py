"""report.html: what is on it, that it is safe, and that it needs nothing else."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components import params
from components.core import paths
from components.data.build import build_store
from components.report.render import value_at
from components.report.words import FORMS
from components.sources.readers.types import CaptionedImage
from components.stages import report as stage
from components.tracking import StageRun

REPOSITORY = Path(__file__).resolve().parents[3]
NASTY = "</text><script>alert('&')</script>"
BACKBONES = ("virtex", "random")
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
    asked = params.Benchmarks(backbones=list(BACKBONES), detection_backbones=list(BACKBONES))
    stage.main(run, *(asked if isinstance(one, params.Benchmarks) else one for one in sections))
    text = (run.output_dir / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert not page.open
    return page, json.loads((run.output_dir / "report.json").read_text(encoding="utf-8")), text


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def write_everything() -> None:
    """Made-up results of all stages, with a class, a caption and a dataset that would be HTML."""
    out = paths.stage_dir
    pretraining = {"train_loss": 3.2, "val_loss": 2.75, "perplexity": 3.9, "images_seen": 38400}
    pretraining |= {"seconds": 372.4, "images_per_second": 103.1, "iterations": 600, "images": 4000}
    parts = {"captioning_forward": 1.5, "captioning_backward": 1.25}
    write(out("pretrain") / "metrics.json", pretraining | {"val": parts})
    rows = "20,9.5,0.1,0.2\n40,6.5,0.2,0.1\n600,3.2,0,0\n"
    write(out("pretrain") / "train.csv", "iteration,loss,backbone_lr,head_lr\n" + rows)
    write(out("pretrain") / "val.csv", "iteration,loss\n0,10.5\n300,4.5\n600,2.75\n")
    write(out("select") / "metrics.json", {"iteration": 450, "criterion": "VOC07 mAP, test"})
    write(out("select") / "checkpoints.csv", "iteration,score,chosen\n300,50.0,no\n450,61.1,yes\n")
    split = {"images": 12, "captions": 60}
    write(
        out("datasets") / "metrics.json", {"captions": {NASTY: {"train": split}}, "voc2007": {"test": split}}
    )
    for shift, name in enumerate(BACKBONES):
        write(out("voc07", name) / "metrics.json", {"mAP": 61.08 - shift, "num_test": 600})
        write(out("voc07", name) / "ap.csv", f'class,ap\n"{NASTY}",{81.0 - shift}\ncone,40\n')
        curve = "class,recall,precision\ncone,0.5,1.0\ncone,1.0,0.5\n"
        write(out("voc07", name) / "precision_recall.csv", curve)
        for benchmark in ("imagenet_linear", "inaturalist"):
            figures: dict[str, Any] = {"top1": 30.0 - shift, "top5": 60.0, "best_top1": 31.0}
            groups = {"many": {"classes": 1, "images": 9, "top1": 44.4}, "few": {"classes": 1, "images": 0}}
            write(out(benchmark, name) / "metrics.json", figures | {"by_frequency": groups})
            lines = "epoch,learning_rate,top1\n1,0.3,10\n1,0.1,9\n2,0.3,30\n2,0.1,31\n"
            write(out(benchmark, name) / "val.csv", lines)
            write(out(benchmark, name) / "classes.csv", f'class,top1\n"{NASTY}",50\nowl,10\nnone,\n')
            write(out(benchmark, name) / "predictions.csv", f'actual,predicted\n"{NASTY}",owl\nowl,owl\n')
        for benchmark, kind in (
            ("coco_segmentation", "mask"),
            ("lvis_segmentation", "mask"),
            ("voc_detection", "box"),
        ):
            aps = {"AP": 12.5 + shift, "AP50": 25.0, "AP75": 9.0}
            write(out(benchmark, name) / "metrics.json", {"box": aps, "mask": aps, "images": 40})
            write(out(benchmark, name) / "losses.csv", "iteration,loss\n5,4.5\n10,3.5\n")
            write(out(benchmark, name) / "ap.csv", f"class,{kind}\ncup,12.5\nbowl,\n")
    Image.new("RGB", (90, 60), "green").save(out("coco_segmentation", "virtex") / "detections.png")
    write_captions()


def write_captions() -> None:
    entries = [
        {
            "image_id": f"coco/{number}",
            "caption": NASTY if number == 2 else "" if number == 1 else f"picture {number}",
            "log_probability": -1.5 * number,
            "references": [f"<b>{number}</b>", NASTY],
            "cider": 20.0 * number,
        }
        for number in range(5)
    ]
    scores = {"CIDEr-D": 71.23, "BLEU-4": 20.0, "images": 5, "dataset": "coco"}
    write(paths.stage_dir("caption") / "captions.json", entries)
    not_run = {"SPICE": "CoreNLP is not installed"}
    write(paths.stage_dir("caption") / "metrics.json", scores | {"not_run": not_run})
    images = []
    for entry in entries[:4]:
        path = Path("images") / f"{entry['image_id'].split('/')[1]}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(path)
        images.append(CaptionedImage(entry["image_id"], "coco", path, ("one",)))
    build_store(
        paths.lmdb_path("val"),
        images,
        num_workers=1,
        short_side=None,
        jpeg_quality=95,
        on_unreadable="refuse",
    )


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
    assert "warmup_iterations5010,000" in flat  # three cells of a row


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
