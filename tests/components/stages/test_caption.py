import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_captioner import VOCAB_SIZE, config

from components import params
from components.benchmarks.captioning import protocol
from components.benchmarks.captioning.java_metrics import Metric, NotRun, Result
from components.benchmarks.captioning.metrics import METRICS
from components.benchmarks.captioning.results import WrittenCaption
from components.benchmarks.shared.per_image import PerImage
from components.captioning.captioner import Captioner
from components.core import paths
from components.core.errors import InputError
from components.data.build import build_store
from components.data.record import StoreForm
from components.data.store import CaptionStore, identify
from components.objectives.build import ModelConfig, build_objective
from components.objectives.saved import Preprocessing, save_captioner
from components.sources.readers.types import CaptionedImage
from components.stages import caption as stage
from components.text.tokenizer import train_tokenizer
from components.tracking import StageRun, UsedDataset

SECTION = params.Caption(dataset="world", beam_size=2, batch_size=3, max_images=None, gallery_images=6)
CAPTIONS = [
    (f"a {colour} <b>circle</b> on the left — naïve", f"One {colour} thing.")
    for colour in ("red", "green", "blue", "grey", "pink", "black", "white")
]


def save_model(model: ModelConfig, tokenizer: bytes | None = None) -> None:
    torch.manual_seed(0)
    preprocessing = Preprocessing(32, tokenizer or paths.TOKENIZER_MODEL.read_bytes())
    save_captioner(paths.CAPTIONER, build_objective(model), model, preprocessing)


def absent(references: object, hypotheses: object) -> Result:
    raise NotRun("its program is away")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StageRun:
    """A store of seven images of ``world``, one of ``other``, a tokenizer, an untrained model; no METEOR."""
    monkeypatch.chdir(tmp_path)
    metrics = METRICS | {("METEOR",): absent, ("SPICE",): absent}
    monkeypatch.setattr("components.benchmarks.captioning.metrics.METRICS", metrics)
    monkeypatch.setenv("VIRTEX_DEVICE", "cpu")
    monkeypatch.setenv("VIRTEX_NUM_WORKERS", "1")
    images = []
    for index, captions in enumerate([*CAPTIONS, ("other",)]):
        path = tmp_path / f"{index}.png"
        Image.fromarray(np.random.default_rng(index).integers(0, 255, (36, 50, 3), np.uint8)).save(path)
        dataset = "world" if index < len(CAPTIONS) else "other"
        images.append(CaptionedImage(f"{dataset}/{index}", dataset, path, captions))
    build_store(paths.lmdb_path("val"), images, StoreForm(), num_workers=1)
    train_tokenizer([text for captions in CAPTIONS for text in captions], VOCAB_SIZE, paths.TOKENIZER_MODEL)
    save_model(config())
    output_dir = paths.stage_dir("caption")
    output_dir.mkdir(parents=True)
    return StageRun("caption", None, output_dir, None)


def widths_drawn(path: Path) -> int:
    """How many quarters of a picture, four images wide, are not empty."""
    pixels = np.asarray(Image.open(path).convert("L"))
    return sum(int(quarter.min() < 128) for quarter in np.array_split(pixels, 4, axis=1))


@pytest.mark.integration
def test_writes_captions_scores_and_page(run: StageRun) -> None:
    stage.main(run, SECTION)
    metrics = json.loads((run.output_dir / "metrics.json").read_text(encoding="utf-8"))
    captions = json.loads((run.output_dir / "captions.json").read_text(encoding="utf-8"))
    assert metrics["images"] == len(captions) == 7
    assert [entry["image_id"] for entry in captions] == [f"world/{index}" for index in range(7)]
    assert [tuple(entry["references"]) for entry in captions] == CAPTIONS
    assert all(entry["log_probability"] < 0 for entry in captions)
    assert metrics["CIDEr-D"] == pytest.approx(np.mean([entry["cider"] for entry in captions]))
    assert set(metrics["not_run"]) == {"METEOR", "SPICE"}
    assert not {"METEOR", "SPICE"} & set(metrics)
    assert "naïve" in (run.output_dir / "captions.json").read_text(encoding="utf-8")
    bounds = metrics["intervals"]["CIDEr-D"]
    assert bounds["low"] <= metrics["CIDEr-D"] <= bounds["high"]
    assert (metrics["protocol"]["name"], metrics["protocol"]["version"]) == (
        "beam search, COCO caption scores",
        1,
    )
    assert metrics["protocol"]["settings"]["beam_size"] == 2
    by_image = PerImage.read(run.output_dir / "per_image.npz")
    assert by_image.results["CIDEr-D"].tolist() == [entry["cider"] for entry in captions]
    page = (run.output_dir / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 6
    assert "<b>circle" not in page
    assert widths_drawn(run.output_dir / "captions.png") == 4

    before = (run.output_dir / "captions.json").read_bytes(), page
    stage.main(run, SECTION.model_copy(update={"batch_size": 7}))
    again = json.loads((run.output_dir / "captions.json").read_text(encoding="utf-8"))
    assert [entry["caption"] for entry in again] == [entry["caption"] for entry in captions]
    stage.main(run, SECTION)
    assert (run.output_dir / "captions.json").read_bytes() == before[0]
    assert (run.output_dir / "index.html").read_text(encoding="utf-8") == before[1]


def test_captions_are_drawn_where_the_nucleus_says_so(run: StageRun) -> None:
    drawn, protocols = [], []
    for nucleus in (0.9, 0.9, 1e-9):  # the last leaves the likeliest word alone: a search with one beam
        stage.main(run, SECTION.model_copy(update={"nucleus": nucleus}))
        captions = json.loads((run.output_dir / "captions.json").read_text(encoding="utf-8"))
        drawn.append([entry["caption"] for entry in captions])
        protocols.append(json.loads((run.output_dir / "metrics.json").read_text())["protocol"]["name"])
    assert set(protocols) == {"nucleus sampling, COCO caption scores"}
    stage.main(run, SECTION.model_copy(update={"beam_size": 1}))
    searched = json.loads((run.output_dir / "captions.json").read_text(encoding="utf-8"))
    assert drawn[0] == drawn[1] != drawn[2] == [entry["caption"] for entry in searched]


def test_every_metric_that_ran_is_shown(
    run: StageRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fixed(value: float) -> Metric:
        return lambda references, _: ([value], [[value] * len(references)])

    metrics = {("CIDEr-D",): fixed(0.94), ("SPICE",): fixed(0.185), ("METEOR",): fixed(0.2)}
    monkeypatch.setattr("components.benchmarks.captioning.metrics.METRICS", metrics)
    stage.main(run, SECTION)
    assert "7 images of world: CIDEr-D 94.0, SPICE 18.5, METEOR 20.0\n" in capsys.readouterr().out
    assert "<dt>SPICE</dt><dd>18.5</dd>" in (run.output_dir / "index.html").read_text(encoding="utf-8")
    assert "not_run" not in json.loads((run.output_dir / "metrics.json").read_text(encoding="utf-8"))


def test_a_model_that_writes_one_sentence_is_warned_of(
    run: StageRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def same(captioner: Any, store: CaptionStore, indices: list[int], **_: Any) -> list[WrittenCaption]:
        return [WrittenCaption(store.get(index).image_id, "a thing", -1.0) for index in indices]

    monkeypatch.setattr(protocol, "caption_images", same)
    stage.main(run, SECTION)
    warning = "Warning: 100 % of the images get the same caption, {}a thing{}\n"
    assert warning.format("'", "'") in capsys.readouterr().out
    assert warning.format("&#39;", "&#39;").strip() in (run.output_dir / "index.html").read_text(
        encoding="utf-8"
    )


def test_images_are_seen_at_the_scale_of_the_section(run: StageRun, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    caption_images = protocol.caption_images

    def recorded(captioner: Captioner, *arguments: Any, **options: Any) -> Any:
        seen.append(vars(captioner.transform))
        return caption_images(captioner, *arguments, **options)

    monkeypatch.setattr(protocol, "caption_images", recorded)
    logged = []
    for section in (SECTION, SECTION.model_copy(update={"image_size": 40, "antialias": False})):
        stage.main(run, section)
        entries = json.loads((run.output_dir / "captions.json").read_text(encoding="utf-8"))
        logged.append([entry["log_probability"] for entry in entries])
    assert seen[0] == {"image_size": 32, "crop_size": 32, "antialias": True}
    assert seen[1] == {"image_size": 40, "crop_size": 32, "antialias": False}
    assert logged[0] != logged[1]


def test_fewer_images_when_asked(run: StageRun) -> None:
    stage.main(run, SECTION.model_copy(update={"max_images": 2}))
    assert len(json.loads((run.output_dir / "captions.json").read_text(encoding="utf-8"))) == 2


def test_an_unknown_dataset_names_those_there_are(run: StageRun) -> None:
    section = SECTION.model_copy(update={"dataset": "coco"})
    with pytest.raises(
        InputError, match=r"caption\.dataset: .*no images of 'coco'; expected one of other, world"
    ):
        stage.main(run, section)
    assert not list(run.output_dir.iterdir())


def test_the_images_are_an_input_of_the_run(run: StageRun, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[UsedDataset] = []
    monkeypatch.setattr(StageRun, "uses", lambda _, *datasets: used.extend(datasets))
    stage.main(run, SECTION.model_copy(update={"max_images": 2}))
    (images,) = used
    assert (images.name, images.context, images.source) == ("world val", "validation", "data/lmdb/val.lmdb")
    assert images.digest == identify(CaptionStore(paths.lmdb_path("val"))).digest
    assert images.profile == {"images": 2}


def test_another_tokenizer_is_refused(run: StageRun) -> None:
    save_model(config(), b"another")
    with pytest.raises(InputError, match=r"trained with another tokenizer than .*captions\.model"):
        stage.main(run, SECTION)


def test_a_model_that_writes_no_captions_gives_empty_results(run: StageRun) -> None:
    save_model(config("token_classification"))
    stage.main(run, SECTION)
    metrics = json.loads((run.output_dir / "metrics.json").read_text(encoding="utf-8"))
    assert metrics == {"images": 0, "not_run": "the objective token_classification writes no captions"}
    assert json.loads((run.output_dir / "captions.json").read_text(encoding="utf-8")) == []
    assert "writes no captions" in (run.output_dir / "index.html").read_text(encoding="utf-8")
    assert widths_drawn(run.output_dir / "captions.png") == 1


def test_a_missing_model_is_named(run: StageRun) -> None:
    paths.CAPTIONER.unlink()
    with pytest.raises(InputError, match="captioner"):
        stage.main(run, SECTION)
