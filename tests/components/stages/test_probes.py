"""The stages ``probes`` and ``likelihood``."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from components import params
from components.benchmarks.probes import examples
from components.benchmarks.shared.per_image import PerImage
from components.core import paths
from components.core.errors import InputError
from components.core.pictures import COLUMNS, PANEL_INCHES
from components.data.build import build_store
from components.data.dataset import ImageDataset
from components.data.record import StoreForm
from components.data.store import CaptionStore
from components.data.transforms import EvalTransform
from components.objectives.build import ModelConfig, build_objective
from components.objectives.contrastive import ContrastiveObjective
from components.objectives.saved import Preprocessing, load_captioner, save_captioner
from components.params import read_section
from components.sources.manifest import DatasetEntry, Manifest, write_parts
from components.sources.readers.types import CaptionedImage
from components.sources.readers.voc_masks import MANIFEST_SPLITS
from components.stages import baseline, likelihood, probes
from components.text.tokenizer import CaptionTokenizer, train_tokenizer
from components.tracking import StageRun

REPOSITORY = Path(__file__).resolve().parents[3]
SIZES = {"image_size": 48, "crop_size": 40}
SENTENCES = ("A picture of a red thing.", "A picture of a green one.", "Nothing is in the picture.")


def section(kind: Any, **changes: Any) -> Any:
    shipped = read_section(kind, REPOSITORY / "params.yaml")
    return kind.model_validate({**shipped.model_dump(), **changes})


def stage_run(stage: str, item: str | None) -> StageRun:
    output_dir = paths.stage_dir(stage, item)
    output_dir.mkdir(parents=True, exist_ok=True)
    return StageRun(stage, item, output_dir, None)


def entry(root: Path) -> DatasetEntry:
    images = dict.fromkeys(("train", "val", "trainval", "test"), 18)
    return DatasetEntry(root=str(root), annotations={}, images=images, listings={})


def use(**datasets: DatasetEntry) -> StageRun:
    """Make these the run's data, and a random backbone its baseline."""
    write_parts(paths.DATASETS_DIR, Manifest(source="folders", captions={}, benchmarks=datasets))
    random = params.Baseline(seed=0, sources={"random": "random"})
    backbone = params.Backbone(name="resnet18", zero_init_residual=True)
    baseline.main(stage_run("baseline", "random"), random, backbone)
    return stage_run("probes", "random")


def draw_imagenet(root: Path) -> Path:
    """Noise of three colours, 12 images to train on and 5 to classify of each."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 5)):
        for label in range(3):
            folder = root / split / f"n{label:08d}"
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 120, (50, 60, 3))
                pixels[..., label] += 130
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.JPEG")
    return root


def probe(run: StageRun, **changes: Any) -> dict[str, Any]:
    settings = section(params.Probes, **changes), section(params.Voc07, **SIZES)
    probes.main(run, *settings, section(params.ImagenetLinear, **SIZES))
    figures: dict[str, Any] = json.loads((run.output_dir / "metrics.json").read_text(encoding="utf-8"))
    return figures


@pytest.fixture
def voc2012(folder: Path) -> Path:
    """VOC2012 of noise: the left part of an image is red and of class 1, or green and of class 2."""
    root = folder / "VOC2012kit"
    base, rng = root / "VOC2012", np.random.default_rng(0)
    for name in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (base / name).mkdir(parents=True)
    for split, count in (("train", 16), ("val", 8)):
        ids = [f"{split}{index}" for index in range(count)]
        (base / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(ids))
        for index, image_id in enumerate(ids):
            pixels, mask = rng.integers(0, 120, (64, 96, 3)), np.zeros((64, 96), np.uint8)
            pixels[:, :48, index % 2] += 130
            mask[:, :48], mask[:, 47:49] = 1 + index % 2, 255
            Image.fromarray(pixels.astype(np.uint8)).save(base / "JPEGImages" / f"{image_id}.jpg")
            Image.fromarray(mask).save(base / "SegmentationClass" / f"{image_id}.png")
    return root


@pytest.mark.integration
def test_masks_are_drawn_from_the_features_of_a_random_network(voc2012: Path) -> None:
    images = dict.fromkeys(MANIFEST_SPLITS.values(), 16)
    run = use(voc2012=entry(voc2012).model_copy(update={"images": images}))
    figures = probe(run, which=["segmentation"])
    assert figures["segmentation"]["voc2012_mIoU"] > 75
    assert figures["chance"] == {"segmentation.voc2012_mIoU": pytest.approx(100 / 2 / 3)}
    bounds = figures["intervals"]["segmentation.voc2012_mIoU"]
    assert bounds["low"] <= figures["segmentation"]["voc2012_mIoU"] <= bounds["high"]
    by_image = PerImage.read(run.output_dir / "per_image.npz")
    assert by_image.images == tuple(f"voc2012/val{index}" for index in range(8))
    assert by_image.results["segmentation.unions"].shape == (8, 3)


def test_a_voc2012_without_masks_is_no_fault(voc2012: Path) -> None:
    run = use(voc2012=entry(voc2012))
    reason = "this run has no `voc2012` data with masks (SegmentationClass)"
    assert probe(run, which=["segmentation"]) == {"not_run": reason}


@pytest.mark.integration
def test_attention_to_maps_tells_colours_apart_too(voc: Path) -> None:
    run = use(voc2007=entry(voc))
    figures = probe(run, which=["attentive"])
    assert figures["attentive"]["voc07_mAP"] > 90
    assert figures["chance"]["attentive.voc07_mAP"] == pytest.approx(100 * (5 / 17 + 6 / 18) / 2)
    assert set(figures["intervals"]) == {"attentive.voc07_mAP"}
    assert figures["not_run"]["knn.voc07_mAP_20"] == "`probes.which` does not name knn"
    assert "attentive" in figures["protocol"]["name"]
    assert figures["protocol"]["settings"]["attentive_epochs"] == 20


@pytest.mark.integration
def test_colours_are_told_apart_by_the_neighbours_of_a_random_network(voc: Path, folder: Path) -> None:
    run = use(voc2007=entry(voc), imagenet=entry(draw_imagenet(folder / "imagenet")))
    figures = probe(run)
    assert figures["knn"]["voc07_mAP_20"] > 90
    assert figures["knn"]["imagenet_top1_20"] > 90
    assert figures["few_shot"]["imagenet_top1_10"] > 90
    assert figures["chance"]["few_shot.imagenet_top1_1"] == pytest.approx(100 / 3)
    assert figures["chance"]["knn.voc07_mAP_20"] == pytest.approx(100 * (5 / 17 + 6 / 18) / 2)
    assert figures["protocol"]["version"] == 1
    by_image = PerImage.read(run.output_dir / "per_image.npz")
    assert by_image.intervals() == figures["intervals"]
    assert len(figures["intervals"]) == 2 + 2 + 4
    assert len(by_image.images) == 18 + 15
    assert by_image.images[18].startswith("n00000000/")
    before = (run.output_dir / "per_image.npz").read_bytes()
    assert probe(run) == figures
    assert (run.output_dir / "per_image.npz").read_bytes() == before


def test_what_the_run_has_no_data_for_is_left_out(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = use(voc2007=entry(voc))
    figures = probe(run)
    assert set(figures) == {"knn", "intervals", "chance", "protocol", "not_run"}
    assert figures["not_run"]["knn.imagenet_top1_20"] == "this run has no `imagenet` data"
    assert "knn.voc07_mAP_20" not in figures["not_run"]
    assert probe(run, which=["few_shot"]) == {"not_run": "this run has no `imagenet` data"}
    assert "probes of random: not run: this run has no `imagenet` data\n" in capsys.readouterr().out
    assert "names none" in probe(run, which=["zero_shot"])["not_run"]
    assert PerImage.read(run.output_dir / "per_image.npz").figures == {}


def write_captioner(folder: Path, objective: str = "bicaptioning") -> StageRun:
    """An untrained captioner of six images."""
    images = []
    for index in range(6):
        path = folder / f"{index}.png"
        Image.fromarray(np.random.default_rng(index).integers(0, 255, (36, 50, 3), np.uint8)).save(path)
        images.append(CaptionedImage(f"coco/{index}", "coco", path, (SENTENCES[index % 3],)))
    build_store(paths.lmdb_path("val"), images, StoreForm(), num_workers=1)
    train_tokenizer([text.lower() for text in SENTENCES], 50, paths.TOKENIZER_MODEL)
    config = ModelConfig.model_validate(
        {
            "backbone": {"name": "resnet18", "zero_init_residual": True},
            "textual_head": {
                "hidden_size": 16, "num_layers": 1, "attention_heads": 2, "feedforward_size": 32,
                "norm": "post", "dropout": 0.1, "max_caption_length": 40,
            },
            "objective": {"name": objective},
            "vocab_size": 50,
        }
    )  # fmt: skip
    torch.manual_seed(0)
    preprocessing = Preprocessing(32, paths.TOKENIZER_MODEL.read_bytes())
    save_captioner(paths.CAPTIONER, build_objective(config), config, preprocessing)
    return stage_run("likelihood", None)


def ask(run: StageRun, **changes: Any) -> dict[str, Any]:
    likelihood.main(run, section(params.Probes, **changes), section(params.Caption, image_size=None))
    figures: dict[str, Any] = json.loads((run.output_dir / "metrics.json").read_text(encoding="utf-8"))
    return figures


def test_a_captioner_ranks_classes_and_captions(voc: Path, folder: Path) -> None:
    assert voc.is_dir()
    figures = ask(write_captioner(folder), which=["zero_shot"])
    assert figures["not_run"]["retrieval.to_text_R1"] == "`probes.which` does not name retrieval"
    figures = ask(stage_run("likelihood", None), which=["zero_shot", "retrieval"])
    assert "not_run" not in figures
    assert set(figures["zero_shot"]) == {"mAP", "mAP_mean", "mAP_forward", "mAP_backward"}
    assert figures["retrieval"]["to_text_R10"] == 100  # of six
    assert figures["chance"]["retrieval.to_image_R1"] == pytest.approx(100 / 6)
    assert figures["intervals"]["zero_shot.mAP"]["low"] < figures["zero_shot"]["mAP"]
    store = CaptionStore(paths.lmdb_path("val"))
    records = [store.get(index) for index in range(6)]
    some = examples.of_captions(records, np.eye(6)[[1, 0, 2, 3, 4, 5]], np.array([1, 1, 0, 0, 0, 0]))
    assert some.texts[0] == f"retrieved: {SENTENCES[1]}\n(its own is number 2 of 6)"
    assert some.pictures[0].shape == (36, 50, 3)
    height = 2 * 1.35 * PANEL_INCHES * 100  # 6 images and at most 8
    with Image.open(paths.stage_dir("likelihood") / examples.FILE) as picture:
        assert picture.size == (COLUMNS * PANEL_INCHES * 100, 2 * height)
    with pytest.raises(InputError, match="more than the 40 tokens of this model's captions"):
        ask(stage_run("likelihood", None), prompt="a picture " * 30 + "of {}")


def test_a_model_that_writes_no_captions_is_not_asked(voc: Path, folder: Path) -> None:
    assert voc.is_dir()
    run = write_captioner(folder, "token_classification")
    reason = "the objective token_classification neither writes captions nor compares them with images"
    assert ask(run) == {"not_run": reason}


def test_a_contrastive_model_is_asked_the_same(voc: Path, folder: Path) -> None:
    """The vectors of images and texts, compared apart from the stage, give its figures."""
    assert voc.is_dir()
    figures = ask(write_captioner(folder, "contrastive"), which=["zero_shot", "retrieval"])
    assert set(figures["zero_shot"]) == {"mAP"}
    assert "not_run" not in figures
    assert figures["protocol"]["name"].startswith("similarity")
    objective, _ = load_captioner(paths.CAPTIONER)
    assert isinstance(objective, ContrastiveObjective)
    tokenizer, store = CaptionTokenizer(paths.TOKENIZER_MODEL), CaptionStore(paths.lmdb_path("val"))
    rows = [tokenizer.caption_tokens(store.get(index).captions[0], 40) for index in range(6)]
    shown = torch.stack([sample["image"] for sample in ImageDataset(store, EvalTransform(32, 32, True))])
    with torch.no_grad():
        images = objective.textual.images(objective.visual(shown))
        texts = torch.cat(
            [objective.textual.captions(torch.tensor([r]), torch.tensor([len(r)])) for r in rows]
        )
    cosines = images @ texts.T
    right = cosines.diagonal()
    before = (cosines > right).sum(0) + ((cosines == right).sum(0) - 1) // 2
    assert figures["retrieval"]["to_image_R1"] == pytest.approx(100 * (before < 1).float().mean().item())
