"""The stage that trains classifiers, for ImageNet linear and iNaturalist."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components import params
from components.benchmarks.classification.results import PICTURE, TABLES
from components.core import paths
from components.core.files import sha256
from components.sources.manifest import DatasetEntry, Manifest, write_parts
from components.stages import baseline, classification
from components.tracking import StageRun

REPOSITORY = Path(__file__).resolve().parents[3]
CLASSES = ("red", "green", "blue")
SHARED: dict[str, Any] = {
    "seed": 0,
    "image_size": 40,
    "crop_size": 32,
    "crop_scale": (0.5, 1.0),
    "batch_size": 6,
    "epochs": 4,
    "momentum": 0.9,
    "precision": "fp32",
    "validate_every": 1,
    "checkpoint_every": 5,
    "log_every": 3,
}
PROBE = params.ImagenetLinear(**SHARED, learning_rate=0.3, more_learning_rates=[1.0], holdout=0.0)
FINE = params.Inaturalist(
    **SHARED,
    learning_rate=0.025,
    weight_decay=1e-4,
    milestones=[2, 3],
    gamma=0.1,
    many_above=6,
    few_below=3,
)


def stage_run(benchmark: str) -> StageRun:
    output_dir = paths.stage_dir(benchmark, "random")
    output_dir.mkdir(parents=True, exist_ok=True)
    stage = "baseline" if benchmark == "baseline" else "classification"
    return StageRun(stage, "random" if stage == benchmark else f"{benchmark}-random", output_dir, None)


def use(**datasets: Path) -> None:
    """Make folders the run's datasets, and a random backbone its baseline."""
    entries = {
        name: DatasetEntry(
            root=str(root),
            annotations={
                path.relative_to(root).as_posix(): sha256(path) for path in root.glob("annotations/*.json")
            },
            images={},
            listings={},
        )
        for name, root in datasets.items()
    }
    write_parts(paths.DATASETS_DIR, Manifest(source="folders", captions={}, **entries))
    backbone = params.Backbone(name="resnet18", zero_init_residual=True)
    section = params.Baseline(seed=0, sources={"random": "random"})
    baseline.main(stage_run("baseline"), section, backbone)


def draw(path: Path, label: int, rng: np.random.Generator) -> None:
    """Noise of the class's colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 120, (40, 50, 3))
    pixels[..., label] += 130
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def draw_imagenet(root: Path, counts: dict[str, int]) -> None:
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        for label, name in enumerate(CLASSES):
            for index in range(count):
                draw(root / split / f"n{label:08d}" / f"{name}_{index}.JPEG", label, rng)


def draw_inaturalist(root: Path, counts: dict[str, tuple[int, ...]]) -> None:
    rng = np.random.default_rng(0)
    for split, of_classes in counts.items():
        images, annotations = [], []
        for label, count in enumerate(of_classes):
            for index in range(count):
                name = f"train_val2018/{CLASSES[label]}/{split}{index}.jpg"
                draw(root / name, label, rng)
                number = len(images) + 1
                images.append({"id": number, "file_name": name})
                annotations.append({"id": number, "image_id": number, "category_id": label})
        categories = [{"id": label, "name": name} for label, name in enumerate(CLASSES)]
        path = root / "annotations" / f"{split}2018.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            json.dumps({"images": images, "annotations": annotations, "categories": categories}), "utf-8"
        )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIRTEX_NUM_WORKERS", "1")
    monkeypatch.setenv("VIRTEX_DEVICE", "cpu")
    return tmp_path


def figures_of(run: StageRun) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((run.output_dir / "metrics.json").read_text(encoding="utf-8"))
    return figures


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.integration
def test_linear_probe(folder: Path) -> None:
    draw_imagenet(folder / "imagenet", {"train": 10, "val": 4})
    use(imagenet=folder / "imagenet")
    run = stage_run("imagenet_linear")
    settings = PROBE.model_copy(update={"holdout": 0.2})
    classification.main(run, settings)

    figures = figures_of(run)
    assert figures["top1"] > 60  # colours are told apart even by a random network
    assert figures["top5"] == 100.0
    assert figures["best_chosen_on"] == "holdout"
    best = f"{figures['best_learning_rate']:g}"
    assert figures["best_top1"] == figures["by_learning_rate"]["val"][best]["top1"]
    assert (figures["num_train"], figures["num_val"], figures["num_classes"]) == (24, 12, 3)
    assert figures["iterations"] == 16
    val = rows_of(run.output_dir / "val.csv")
    assert [row["epoch"] for row in val if row["learning_rate"] == "0.3"] == ["1", "2", "3", "4"]
    assert float(val[-2]["top1"]) == pytest.approx(figures["top1"], abs=1e-3)
    predictions = rows_of(run.output_dir / "predictions.csv")
    right = [row["actual"] == row["predicted"] for row in predictions]
    assert 100 * np.mean(right) == pytest.approx(figures["top1"])
    assert len(list((folder / ".scratch" / "features").glob("*.safetensors"))) == 2
    assert not list((folder / ".scratch" / "imagenet_linear").iterdir())  # the checkpoints are gone

    before = {path.name: path.read_bytes() for path in run.output_dir.glob("*.csv")}
    classification.main(run, settings)
    assert {path.name: path.read_bytes() for path in run.output_dir.glob("*.csv")} == before


@pytest.mark.integration
def test_fine_tuning(folder: Path) -> None:
    draw_inaturalist(folder / "inaturalist", {"train": (8, 4, 2), "val": (3, 3, 3)})
    use(inaturalist=folder / "inaturalist")
    run = stage_run("inaturalist")
    classification.main(run, FINE)

    figures = figures_of(run)
    assert figures["top5"] == 100.0
    groups = figures["by_frequency"]
    assert [groups[name]["classes"] for name in ("many", "medium", "few")] == [1, 1, 1]
    assert np.mean([group["top1"] for group in groups.values()]) == pytest.approx(figures["top1"])
    assert figures["iterations"] == 12
    assert [row["train_images"] for row in rows_of(run.output_dir / "classes.csv")] == ["8", "4", "2"]
    train = rows_of(run.output_dir / "train.csv")
    assert float(train[-1]["loss"]) < float(train[0]["loss"])
    assert all((run.output_dir / name).is_file() for name in (*TABLES, PICTURE))


@pytest.mark.integration
def test_a_probe_in_two_processes_gives_what_one_gives(folder: Path) -> None:
    draw_imagenet(folder / "imagenet", {"train": 8, "val": 5})
    use(imagenet=folder / "imagenet")
    run = stage_run("imagenet_linear")
    classification.main(run, PROBE)
    alone, curves = figures_of(run), rows_of(run.output_dir / "val.csv")

    (folder / "params.yaml").write_text(json.dumps({"imagenet_linear": PROBE.model_dump(mode="json")}))
    finished = subprocess.run(
        [sys.executable, "-m", "components.stages.classification", "imagenet_linear", "random"],
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "VIRTEX_NUM_PROCESSES": "2",
            "OMP_NUM_THREADS": "1",
            "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",  # nobody answers; the work goes on
        },
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("ImageNet linear top-1 of random") == 1
    together = figures_of(run)
    assert together["images_seen"] == alone["images_seen"]
    assert together["val_loss"] == pytest.approx(alone["val_loss"], rel=1e-3)
    for row, expected in zip(rows_of(run.output_dir / "val.csv"), curves, strict=True):
        assert float(row["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-3)


@pytest.mark.parametrize(("benchmark", "settings"), [("imagenet_linear", PROBE), ("inaturalist", FINE)])
def test_a_run_without_the_dataset_says_so_and_goes_on(
    folder: Path, benchmark: str, settings: params.Classification, capsys: pytest.CaptureFixture[str]
) -> None:
    write_parts(paths.DATASETS_DIR, Manifest(source="folders", captions={}))
    run = stage_run(benchmark)
    classification.main(run, settings)
    assert set(figures_of(run)) == {"not_run"}
    assert all((run.output_dir / name).is_file() for name in (*TABLES, PICTURE))
    assert "not run" in capsys.readouterr().out


@pytest.mark.integration
@pytest.mark.parametrize("learning_rate", [0.3, 1e30])
def test_a_head_that_diverges_is_told(
    folder: Path,
    learning_rate: float,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    draw_imagenet(folder / "imagenet", {"train": 6, "val": 2})
    use(imagenet=folder / "imagenet")
    run = stage_run("imagenet_linear")
    rates = {"learning_rate": learning_rate, "more_learning_rates": [1.0, 1e30 if learning_rate < 1 else 0.3]}
    classification.main(run, PROBE.model_copy(update=rates))

    figures = figures_of(run)
    assert set(figures["diverged"]) == {"1e+30"}
    assert "beyond all bounds by iteration" in figures["diverged"]["1e+30"]
    assert set(figures["by_learning_rate"]["val"]) == {"0.3", "1"}
    is_there = learning_rate == 0.3
    for name in ("top1", "top5", "train_loss", "val_loss"):
        assert (name in figures) is is_there
    assert figures["best_learning_rate"] in (0.3, 1.0)
    assert (": none at 1e+30, best" in capsys.readouterr().out) is not is_there
    assert ("of the figures reported, has diverged" in caplog.text) is not is_there
    assert "learning rate 1e+30" in caplog.text
    bad = [row for row in rows_of(run.output_dir / "val.csv") if row["learning_rate"] == "1e+30"]
    assert len(bad) == 4
    assert not any(row["loss"] + row["top1"] + row["top5"] for row in bad)
    assert all((run.output_dir / name).stat().st_size for name in (*TABLES, PICTURE))


def few_images(root: Path, target: Path, per_class: int) -> None:
    """Links to some of every class's images."""
    for split in ("train", "val"):
        for source in sorted(path for path in (root / split).iterdir() if path.is_dir()):
            (target / split / source.name).mkdir(parents=True)
            for path in sorted(source.iterdir())[:per_class]:
                (target / split / source.name / path.name).symlink_to(path)


@pytest.mark.integration
def test_imagenette_linear(folder: Path, shared_dir: Path) -> None:
    few_images(shared_dir / "data" / "real" / "imagenette", folder / "imagenette", 5)
    use(imagenet=folder / "imagenette")
    run = stage_run("imagenet_linear")
    classification.main(run, PROBE.model_copy(update={"epochs": 3}))
    figures = figures_of(run)
    assert (figures["num_train"], figures["num_val"], figures["num_classes"]) == (50, 50, 10)
    assert 0 <= figures["top1"] <= figures["top5"] <= 100
    assert figures["best_top1"] >= figures["top1"]
    assert figures["best_chosen_on"] == "val"


@pytest.mark.integration
def test_flowers_fine_tuning(folder: Path, shared_dir: Path) -> None:
    use(inaturalist=shared_dir / "data" / "real" / "flowers17")
    run = stage_run("inaturalist")
    classification.main(run, FINE.model_copy(update={"epochs": 1, "batch_size": 32, "milestones": [1]}))
    figures = figures_of(run)
    assert (figures["num_train"], figures["num_val"], figures["num_classes"]) == (272, 102, 17)
    assert figures["by_frequency"]["many"]["classes"] == 17
    assert figures["images_seen"] == 9 * 32
