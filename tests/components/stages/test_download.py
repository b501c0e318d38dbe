import json
import os
from pathlib import Path
from typing import Any

import pytest

from components import params, paths
from components.errors import InputError
from components.sources.manifest import read_manifest
from components.stages import download
from components.tracking import StageRun

NO_FOLDERS: dict[str, Any] = {
    "captions": {}, "voc2007": None, "imagenet": None, "inaturalist": None, "lvis": None
}  # fmt: skip
NOTHING_DRAWN = {
    "voc_trainval_images": 0, "voc_test_images": 0, "imagenet_train_images": 0, "imagenet_val_images": 0,
    "inaturalist_train_images": 0, "inaturalist_val_images": 0,
}  # fmt: skip
SMALLEST = {"seed": 0, "image_size": 32, "train_images": 3, "val_images": 2, **NOTHING_DRAWN}

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def in_empty_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIRTEX_NUM_WORKERS", "1")


def run_download(source: str, world: dict[str, int] | None = None, **folders: Any) -> dict[str, Any]:
    section = params.Download.model_validate(
        {"source": source, "drawn_world": SMALLEST | (world or {}), "folders": NO_FOLDERS | folders}
    )
    output_dir = paths.stage_dir("download")
    output_dir.mkdir(parents=True, exist_ok=True)
    download.main(StageRun("download", None, output_dir, None), section)
    return json.loads((output_dir / "metrics.json").read_text(encoding="utf-8"))


def test_every_source_that_params_allow_is_there() -> None:
    allowed = params.Download.model_json_schema()["properties"]["source"]["enum"]
    assert set(download.SOURCES) == set(allowed)


def test_the_drawn_world_satisfies_the_readers() -> None:
    counts = {
        "voc_trainval_images": 12, "voc_test_images": 11, "imagenet_train_images": 1,
        "imagenet_val_images": 1, "inaturalist_train_images": 2, "inaturalist_val_images": 1,
    }  # fmt: skip
    figures = run_download("drawn_world", counts)
    assert figures["captions"]["coco"]["train"]["images"] == 3
    assert figures["captions"]["coco"]["train"]["captions"] == 15
    assert figures["voc2007"]["trainval"]["images"] == 12
    assert figures["voc2007"]["test"]["images"] == 11
    assert figures["imagenet"]["val"]["images"] == figures["imagenet"]["val"]["classes"] >= 12
    assert figures["lvis"]["val"]["images"] == 2

    manifest = read_manifest(paths.DATASETS_MANIFEST)
    assert manifest.captions["coco"].root == "data/datasets/coco"
    assert manifest.lvis is not None
    assert manifest.lvis.images_root == "data/datasets/coco"
    assert len(manifest.captions_of("val")) == 2
    assert manifest.voc2007_root.is_dir()
    assert [path.name for path in Path("data").iterdir()] == ["datasets"]


def test_drawing_again_changes_nothing() -> None:
    run_download("drawn_world")
    before = paths.DATASETS_MANIFEST.read_bytes()
    assert read_manifest(paths.DATASETS_MANIFEST).voc2007 is None
    run_download("drawn_world")
    assert paths.DATASETS_MANIFEST.read_bytes() == before
    run_download("drawn_world", {"seed": 1})
    assert paths.DATASETS_MANIFEST.read_bytes() != before


def test_folders_are_used_in_place(shared_dir: Path) -> None:
    real = shared_dir / "data" / "real"
    figures = run_download(
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
    assert [path.name for path in paths.DATASETS_DIR.iterdir()] == ["manifest.json"]
    manifest = read_manifest(paths.DATASETS_MANIFEST)
    assert len(manifest.captions_of("train")) == 2421 + 4600
    assert manifest.voc2007_root == (real / "voc2007" / "VOCdevkit").absolute()


@pytest.mark.parametrize("written", ["../data/voc", "voc", "~nobody_of_this_name/voc", "/absent/voc"])
def test_a_missing_folder_names_the_key_and_the_absolute_path(written: str) -> None:
    run_download("drawn_world")
    captions = {"coco": str(paths.DATASETS_DIR / "coco")}
    for key in ("captions.mine", "voc2007", "imagenet", "inaturalist", "lvis"):
        more = {"captions": captions | {"mine": written}} if key == "captions.mine" else {key: written}
        with pytest.raises(InputError) as raised:
            run_download("folders", **({"captions": captions} | more))
        assert str(raised.value).startswith(f"download.folders.{key}: {os.path.abspath(written)}")


def test_a_failure_leaves_what_was_there() -> None:
    run_download("drawn_world")
    before = {path: path.read_bytes() for path in Path("data").rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"^download\.folders\.captions\.mine: /.*/nowhere: no such folder"):
        run_download("folders", captions={"mine": "nowhere"})
    assert {path: path.read_bytes() for path in Path("data").rglob("*") if path.is_file()} == before
