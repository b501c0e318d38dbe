import csv
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from components import params
from components.core import paths
from components.core.datasets import DATASETS
from components.core.errors import InputError
from components.data.store import CaptionStore
from components.params import read_section
from components.sources.manifest import read_manifest
from components.sources.origins import SOURCES
from components.sources.readers.coco import read_captions
from components.stages import datasets, lmdb
from components.tracking import StageRun

NO_FOLDERS: dict[str, Any] = {
    "captions": {}, "voc2007": None, "voc2012": None, "imagenet": None, "inaturalist": None, "lvis": None
}  # fmt: skip
NOTHING_DRAWN = {
    "voc_trainval_images": 0, "voc_test_images": 0, "imagenet_train_images": 0, "imagenet_val_images": 0,
    "inaturalist_train_images": 0, "inaturalist_val_images": 0,
}  # fmt: skip
SMALLEST = {"seed": 0, "image_size": 32, "train_images": 3, "val_images": 2, **NOTHING_DRAWN}

REPOSITORY = Path(__file__).resolve().parents[3]
OWN = {
    "image_column": "image", "caption_column": "caption", "split_column": "split", "val_fraction": 0.2,
    "seed": 0, "url_connections": 4,
}  # fmt: skip
SEGMENTATION = read_section(params.CocoSegmentation, REPOSITORY / "params.yaml")
LMDB = params.Lmdb(short_side=None, jpeg_quality=95, decoded=False, on_unreadable="refuse")

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def in_empty_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIRTEX_NUM_WORKERS", "1")


def run_datasets(source: str, world: dict[str, int] | None = None, **folders: Any) -> dict[str, Any]:
    section = params.Download.model_validate(
        {
            "source": source,
            "drawn_world": SMALLEST | (world or {}),
            "published": [],
            "connections": 2,
            "mirrors": {name: [] for name in DATASETS},
            "folders": NO_FOLDERS | folders,
            "own_data": OWN,
        }
    )
    output_dir = paths.stage_dir("datasets")
    output_dir.mkdir(parents=True, exist_ok=True)
    datasets.main(StageRun("datasets", None, output_dir, None), section, LMDB, SEGMENTATION)
    return json.loads((output_dir / "metrics.json").read_text(encoding="utf-8"))


def test_every_source_that_params_allow_is_there() -> None:
    allowed = params.Download.model_json_schema()["properties"]["source"]["enum"]
    assert set(SOURCES) == set(allowed)


def test_the_drawn_world_satisfies_the_readers() -> None:
    counts = {
        "voc_trainval_images": 12, "voc_test_images": 11, "imagenet_train_images": 1,
        "imagenet_val_images": 1, "inaturalist_train_images": 2, "inaturalist_val_images": 1,
    }  # fmt: skip
    figures = run_datasets("drawn_world", counts)
    assert figures["captions"]["coco"]["train"]["images"] == 3
    assert figures["captions"]["coco"]["train"]["captions"] == 15
    assert figures["voc2007"]["trainval"]["images"] == 12
    assert figures["voc2007"]["test"]["images"] == 11
    assert figures["imagenet"]["val"]["images"] == figures["imagenet"]["val"]["classes"] >= 12
    assert figures["lvis"]["val"]["images"] == 2

    manifest = read_manifest(paths.DATASETS_MANIFEST)
    assert manifest.captions["coco"].root == "data/datasets/coco"
    assert str(manifest.lvis_images_root) == "data/datasets/coco"
    assert len(manifest.captions_of("val")) == 2
    assert manifest.root_of("voc2007").is_dir()
    assert [path.name for path in Path("data").iterdir()] == ["datasets"]


def test_some_scenes_are_shown_with_their_captions() -> None:
    run_datasets("drawn_world", {"val_images": 6})
    scenes = paths.stage_dir("datasets") / datasets.SCENES
    with Image.open(scenes) as picture:
        assert picture.width > picture.height > 0
        assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 100


def test_drawing_again_changes_nothing() -> None:
    run_datasets("drawn_world")
    before = paths.DATASETS_MANIFEST.read_bytes()
    assert "voc2007" not in read_manifest(paths.DATASETS_MANIFEST).benchmarks
    run_datasets("drawn_world")
    assert paths.DATASETS_MANIFEST.read_bytes() == before
    run_datasets("drawn_world", {"seed": 1})
    assert paths.DATASETS_MANIFEST.read_bytes() != before


def test_folders_are_used_in_place(shared_dir: Path) -> None:
    real = shared_dir / "data" / "real"
    figures = run_datasets(
        "folders",
        captions={"coco": str(real / "coco"), "flickr8k": str(real / "flickr8k")},
        voc2007=str(real / "voc2007" / "VOCdevkit"),
        imagenet=str(real / "imagenette"),
        inaturalist=str(real / "flowers17"),
    )
    assert list(figures["captions"]) == ["coco", "flickr8k"]
    assert figures["captions"]["coco"]["val"]["objects"]["person"] == 456
    assert sum(figures["voc2007"][split]["objects"]["dog"] > 0 for split in ("trainval", "test")) == 2
    assert sum(sum(figures["voc2007"][split]["objects"].values()) for split in ("trainval", "test")) == 3672
    assert figures["inaturalist"]["train"] == {"images": 272, "classes": 17}
    assert {path.name for path in paths.DATASETS_DIR.rglob("*") if path.is_file()} == {"manifest.json"}
    manifest = read_manifest(paths.DATASETS_MANIFEST)
    assert len(manifest.captions_of("train")) == 2421 + 4600
    assert manifest.root_of("voc2007") == (real / "voc2007" / "VOCdevkit").absolute()


@pytest.mark.parametrize("written", ["../data/voc", "voc", "~nobody_of_this_name/voc", "/absent/voc"])
def test_a_missing_folder_names_the_key_and_the_absolute_path(written: str) -> None:
    run_datasets("drawn_world")
    captions = {"coco": str(paths.DATASETS_DIR / "coco")}
    for key in ("captions.mine", "voc2007", "imagenet", "inaturalist", "lvis"):
        more = {"captions": captions | {"mine": written}} if key == "captions.mine" else {key: written}
        with pytest.raises(InputError) as raised:
            run_datasets("folders", **({"captions": captions} | more))
        assert str(raised.value).startswith(f"download.folders.{key}: {os.path.abspath(written)}")


def test_a_failure_leaves_what_was_there() -> None:
    run_datasets("drawn_world")
    before = {path: path.read_bytes() for path in Path("data").rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"^download\.folders\.captions\.mine: /.*/nowhere: no such folder"):
        run_datasets("folders", captions={"mine": "nowhere"})
    assert {path: path.read_bytes() for path in Path("data").rglob("*") if path.is_file()} == before


def photographs(shared_dir: Path) -> list[tuple[Path, str]]:
    """Eight real photographs and forty captions."""
    root = shared_dir / "data" / "real" / "flickr8k"
    images = read_captions(root, "val", "flickr8k")[:8]
    return [(image.path, caption) for image in images for caption in image.captions]


def build_lmdb(split: str) -> CaptionStore:
    run = StageRun("lmdb", split, paths.stage_dir("lmdb", split), None)
    run.output_dir.mkdir(parents=True)
    lmdb.main(run, LMDB, params.Stream(train=False, mixed_tars=None, cache_gib=1.0))
    return CaptionStore(paths.lmdb_path(split))


def test_a_table_of_photographs_becomes_lmdb(shared_dir: Path) -> None:
    rows = photographs(shared_dir)
    table = Path("my captions.csv")
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "caption"))
        writer.writerows(rows)
    figures = run_datasets("folders", captions={"mine": str(table)})["captions"]["mine"]
    assert figures["train"] == {"images": 6, "captions": 30}
    assert figures["val"] == {"images": 2, "captions": 10}
    stores = [build_lmdb(split) for split in ("train", "val")]
    written = {(path.read_bytes(), caption) for path, caption in rows}
    records = [record for store in stores for record in store]
    assert {(record.image, caption) for record in records for caption in record.captions} == written
    assert {record.dataset for record in records} == {"mine"}
    table.write_text(table.read_text(encoding="utf-8") + "one.jpg,more\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"my captions\.csv: changed since the datasets stage ran"):
        read_manifest(paths.DATASETS_MANIFEST).captions_of("train")


def test_every_form_of_ones_own_data_becomes_the_same_lmdb(shared_dir: Path) -> None:
    by_path: dict[Path, list[str]] = {}
    for path, caption in photographs(shared_dir):
        by_path.setdefault(path, []).append(caption)
    texts, shards = Path("texts"), Path("shards")
    for number, (path, captions) in enumerate(by_path.items()):
        split = "val" if number < 2 else "train"
        (texts / split).mkdir(parents=True, exist_ok=True)
        shards.mkdir(exist_ok=True)
        shutil.copy(path, texts / split / path.name)
        (texts / split / path.with_suffix(".txt").name).write_text("\n".join(captions), encoding="utf-8")
        with tarfile.open(shards / f"{split}-0.tar", "a") as tar:
            for file in sorted((texts / split).glob(f"{path.stem}.*")):
                tar.add(file, file.name)
    by_form = {}
    for form, source in (("texts", texts), ("shards", shards)):
        run_datasets("folders", captions={"mine": str(source)})
        for split in ("train", "val"):
            store = build_lmdb(split)
            by_form[form, split] = {(record.image, record.captions) for record in store}
            shutil.rmtree(paths.stage_dir("lmdb", split))
    assert by_form["texts", "train"] == by_form["shards", "train"]
    assert by_form["texts", "val"] == by_form["shards", "val"]
    assert len(by_form["texts", "val"]) == 2
