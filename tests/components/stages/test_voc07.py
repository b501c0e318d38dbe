import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components import params
from components.benchmarks.shared.per_image import PerImage
from components.core import paths
from components.core.errors import InputError
from components.sources.manifest import DatasetEntry, Manifest, write_parts
from components.sources.readers.voc import read_voc07
from components.stages import baseline, voc07
from components.tracking import StageRun

SECTION = params.Voc07(
    image_size=48,
    crop_size=40,
    batch_size=16,
    costs=[0.1, 10.0],
    folds=3,
    positive_weight=2.0,
    max_iterations=2000,
)
RESNET18 = params.Backbone(name="resnet18", zero_init_residual=True)


def stage_run(stage: str, item: str) -> StageRun:
    output_dir = paths.stage_dir(stage, item)
    output_dir.mkdir(parents=True, exist_ok=True)
    return StageRun(stage, item, output_dir, None)


def use_voc(root: Path) -> None:
    """Make ``root`` the run's VOC2007, and a random backbone its baseline."""
    entry = DatasetEntry(root=str(root), annotations={}, images={}, listings={})
    write_parts(paths.DATASETS_DIR, Manifest(source="folders", captions={}, benchmarks={"voc2007": entry}))
    section = params.Baseline(seed=0, sources={"random": "random"})
    baseline.main(stage_run("baseline", "random"), section, RESNET18)


@pytest.mark.usefixtures("folder")
def test_without_voc2007_it_says_so_and_the_run_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    write_parts(paths.DATASETS_DIR, Manifest(source="folders", captions={}))
    run = stage_run("voc07", "random")
    voc07.main(run, SECTION)
    reason = "this run has no `voc2007` data"
    assert json.loads((run.output_dir / "metrics.json").read_text()) == {"not_run": reason}
    assert (run.output_dir / "ap.csv").read_text().startswith("class,ap,")
    assert (run.output_dir / "precision_recall.csv").read_text() == "class,recall,precision\n"
    assert Image.open(run.output_dir / "ap.png").size[0] > 100
    assert capsys.readouterr().out == f"VOC07 is not run: {reason}\n"


def check_what_stands_beside(
    figures: dict[str, Any], folder: Path, shape: tuple[int, ...], chance: float
) -> None:
    """Bounds, chance level and protocol of the mAP, and scores ``shape`` by image."""
    by_image = PerImage.read(folder / "per_image.npz")
    assert by_image.intervals() == figures["intervals"]
    assert by_image.results["scores"].shape == shape
    bounds = figures["intervals"]["mAP"]
    assert bounds["low"] <= figures["mAP"] <= bounds["high"]
    assert figures["chance"] == {"mAP": pytest.approx(chance)}
    assert figures["protocol"]["settings"]["costs"] == [0.1, 10.0]


@pytest.mark.integration
def test_writes_figures_tables_and_picture(voc: Path) -> None:
    use_voc(voc)
    run = stage_run("voc07", "random")
    voc07.main(run, SECTION)

    figures = json.loads((run.output_dir / "metrics.json").read_text(encoding="utf-8"))
    assert figures["mAP"] > 90  # colours are told apart even by a random network
    assert figures["mAP"] == pytest.approx(np.mean([figures["ap"]["red"], figures["ap"]["green"]]))
    assert set(figures["costs"].values()) <= {0.1, 10.0}
    assert (figures["num_trainval"], figures["num_test"]) == (18, 18)
    check_what_stands_beside(figures, run.output_dir, (18, 2), 100 * (5 / 17 + 6 / 18) / 2)
    with open(run.output_dir / "ap.csv", encoding="utf-8", newline="") as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    assert rows.keys() == {"red", "green"}
    assert rows["red"]["test_images"] == "17"
    assert rows["red"]["test_positives"] == "5"
    assert rows["green"]["test_images"] == "18"
    with open(run.output_dir / "precision_recall.csv", encoding="utf-8", newline="") as file:
        assert {row["class"] for row in csv.DictReader(file)} == {"red", "green"}
    with Image.open(run.output_dir / "ap.png") as picture:
        assert picture.width > 400

    before = {path.name: path.read_bytes() for path in run.output_dir.glob("*.csv")}
    voc07.main(run, SECTION)
    assert {path.name: path.read_bytes() for path in run.output_dir.glob("*.csv")} == before


def test_refuses_splits_with_different_classes(voc: Path) -> None:
    use_voc(voc)
    (voc / "VOC2007/ImageSets/Main/green_test.txt").unlink()
    with pytest.raises(InputError, match="only one of them lists green"):
        voc07.main(stage_run("voc07", "random"), SECTION)


def test_an_unreadable_image_leaves_the_old_results(voc: Path) -> None:
    use_voc(voc)
    run = stage_run("voc07", "random")
    (run.output_dir / "ap.csv").write_text("old")
    (voc / "VOC2007/JPEGImages/test003.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"^\S*test003\.jpg: cannot be read"):
        voc07.main(run, SECTION)
    assert (run.output_dir / "ap.csv").read_text(encoding="utf-8") == "old"
    assert not (run.output_dir / "metrics.json").exists()


def test_a_backbone_that_was_not_exported_is_named(voc: Path) -> None:
    use_voc(voc)
    with pytest.raises(InputError, match=r"virtex\.safetensors: no such backbone"):
        voc07.main(stage_run("voc07", "virtex"), SECTION)


@pytest.mark.slow
def test_random_features_of_photographs_beat_chance(folder: Path, shared_dir: Path) -> None:
    root = shared_dir / "data" / "real" / "voc2007" / "VOCdevkit"
    use_voc(root)
    run = stage_run("voc07", "random")
    voc07.main(run, SECTION.model_copy(update={"image_size": 80, "crop_size": 72}))
    figures = json.loads((run.output_dir / "metrics.json").read_text(encoding="utf-8"))
    test = read_voc07(root, "test")
    positives, kept = (test.labels == 1).sum(axis=0), (test.labels != 0).sum(axis=0)
    chance = 100 * float((positives / kept).mean())
    assert len(figures["ap"]) == 20
    assert chance + 2 < figures["mAP"] < 50
    check_what_stands_beside(figures, run.output_dir, test.labels.shape, chance)
    with open(run.output_dir / "ap.csv", encoding="utf-8", newline="") as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    assert [int(rows[name]["test_images"]) for name in test.classes] == kept.tolist()
