import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from components import params
from components.core import paths
from components.core.errors import InputError
from components.data.shards import shard_of
from components.data.store import CaptionStore
from components.sources.readers.coco import ObjectLabels
from components.sources.readers.types import CaptionedImage
from components.stages import lmdb as stage
from components.stages import lmdb_shard as shard_stage
from components.tracking.run import StageRun

KEEP = params.Lmdb(short_side=None, jpeg_quality=95, decoded=False, on_unreadable="refuse")
HERE = params.Stream(train=False, mixed_tars=None, cache_gib=1.0)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[CaptionedImage]:
    """Five pictures that the manifest names for ``val`` and a working directory of their own."""
    monkeypatch.chdir(tmp_path)
    pictures = []
    for index in range(5):
        path = tmp_path / f"{index}.png"
        Image.fromarray(np.full((20, 30, 3), 40 * index, np.uint8)).save(path)
        pictures.append(CaptionedImage(f"world/{index}", "world", path, ("one", "two")))
    labels = ObjectLabels(("square", "dot"), {"world/1": (1, 2), "world/4": (2,)})
    manifest = SimpleNamespace(
        captions_of=lambda split: {"val": pictures}[split],
        object_labels_of=lambda split: {"val": labels}[split],
    )
    monkeypatch.setattr(stage, "read_manifest", lambda path: manifest)
    return pictures


@pytest.fixture
def stage_run(images: list[CaptionedImage]) -> StageRun:
    output_dir = paths.stage_dir("lmdb", "val")
    output_dir.mkdir(parents=True)
    return StageRun("lmdb", "val", output_dir)


def test_the_split_and_its_figures(stage_run: StageRun) -> None:
    stage.main(stage_run, KEEP, HERE)
    store = CaptionStore(paths.lmdb_path("val"))
    metrics = json.loads((stage_run.output_dir / "metrics.json").read_text(encoding="utf-8"))
    assert len(store) == metrics["images"] == 5
    assert metrics["captions"] == 10
    assert (metrics["labelled"], metrics["categories"]) == (2, 2)
    assert [record.labels for record in store] == [(), (1, 2), (), (), (2,)]
    assert store.metadata.categories == ("square", "dot")
    assert metrics["skipped"] == metrics["resized"] == 0
    assert metrics["file_bytes"] == paths.lmdb_path("val").stat().st_size
    assert metrics["images_per_second"] > 0
    assert not (stage_run.output_dir / "skipped.csv").exists()


def test_resizing_is_a_parameter(stage_run: StageRun) -> None:
    stage.main(stage_run, KEEP.model_copy(update={"short_side": 16}), HERE)
    assert CaptionStore(paths.lmdb_path("val")).metadata.short_side == 16


def test_skipped_images_are_listed_until_they_are_mended(
    stage_run: StageRun, images: list[CaptionedImage]
) -> None:
    whole = images[2].path.read_bytes()
    images[2].path.write_bytes(whole[:30])
    with pytest.raises(InputError, match=r"2\.png"):
        stage.main(stage_run, KEEP, HERE)
    skip = KEEP.model_copy(update={"on_unreadable": "skip"})
    stage.main(stage_run, skip, HERE)
    with (stage_run.output_dir / "skipped.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [(row["image_id"], row["dataset"]) for row in rows] == [("world/2", "world")]
    assert json.loads((stage_run.output_dir / "metrics.json").read_text(encoding="utf-8"))["skipped"] == 1
    images[2].path.write_bytes(whole)
    stage.main(stage_run, skip, HERE)
    assert not (stage_run.output_dir / "skipped.csv").exists()


@pytest.fixture
def training(images: list[CaptionedImage], monkeypatch: pytest.MonkeyPatch) -> list[CaptionedImage]:
    """The same pictures for ``train``, with other names."""
    pictures = [replace(image, image_id=f"grey/{index}") for index, image in enumerate(images)]
    manifest = SimpleNamespace(
        captions_of=lambda split: {"train": pictures}[split],
        object_labels_of=lambda split: {"train": ObjectLabels((), {})}[split],
    )
    for module in (stage, shard_stage):
        monkeypatch.setattr(module, "read_manifest", lambda path: manifest)
    return pictures


def _build_in_shards(numbers: list[int]) -> list[bool]:
    """Run the stages; returns whether each shard was written."""
    lmdb = KEEP.model_copy(update={"shards": numbers})
    written = []
    for name, item in [("lmdb", "train"), *(("lmdb_shard", str(number)) for number in numbers)]:
        folder = paths.stage_dir(name, item)
        folder.mkdir(parents=True, exist_ok=True)
        run = StageRun(name, item, folder)
        stage.main(run, lmdb, HERE) if name == "lmdb" else shard_stage.main(run, lmdb)
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        written += [bool(metrics["written"])] if name == "lmdb_shard" else []
    return written


def test_training_images_in_shards(training, capfd, tmp_path: Path) -> None:
    assert _build_in_shards([0, 1]) == [True, True]
    assert json.loads((paths.stage_dir("lmdb", "train") / "metrics.json").read_text())["images"] == 5
    lines = capfd.readouterr().out.splitlines()
    assert [re.sub(r", [\d.]+ .B;", ";", line) for line in lines] == [
        "data/lmdb/train-0.lmdb: 2 images, 4 captions; written",
        "data/lmdb/train-1.lmdb: 3 images, 6 captions; written",
    ]
    assert _build_in_shards([0, 1]) == [False, False]
    assert capfd.readouterr().out.count("up to date") == 2
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "new.png")
    training.append(CaptionedImage("grey/new", "world", tmp_path / "new.png", ("new",)))
    assert _build_in_shards([0, 1]) == [number == shard_of("grey/new", 2) for number in (0, 1)]
    names = [record.image_id for record in CaptionStore(paths.lmdb_path("train"))]
    assert names == [image.image_id for image in training]
    _build_in_shards([])
    assert [record.image_id for record in CaptionStore(paths.lmdb_path("train"))] == names  # of one file
    assert [record.image_id for record in CaptionStore(paths.lmdb_path("train"))] == names
