"""The datasets stage on people's object annotations, and what detection then does with them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components import params
from components.core import paths
from components.core.errors import InputError
from components.data.image import encode_jpeg
from components.params import read_section
from components.sources.manifest import read_manifest
from components.stages import datasets, detection
from components.tracking import StageRun

REPOSITORY = Path(__file__).resolve().parents[3]
NO_FOLDERS: dict[str, Any] = {
    "captions": {}, "voc2007": None, "voc2012": None, "imagenet": None, "inaturalist": None, "lvis": None
}  # fmt: skip


@pytest.fixture(autouse=True)
def in_empty_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_datasets(**folders: Any) -> dict[str, Any]:
    shipped = read_section(params.Download, REPOSITORY / "params.yaml").model_dump()
    section = params.Download.model_validate(
        shipped | {"source": "folders", "folders": NO_FOLDERS | folders, "published": []}
    )
    output_dir = paths.stage_dir("datasets")
    output_dir.mkdir(parents=True, exist_ok=True)
    others = [read_section(other, REPOSITORY / "params.yaml") for other in datasets.SECTIONS[1:]]
    datasets.main(StageRun("datasets", None, output_dir, None), section, *others)
    return json.loads((output_dir / "metrics.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "lines", "objects"),
    [
        ("coco_bom", [], None),
        ("coco_no_area", ["6 without `area`, computed (such as id 100)"], {"cat": 3, "dog": 3}),
        ("coco_box_outside", ["1 outside the image, left out (such as id 100)"], {"dog": 2, "cat": 3}),
        ("coco_empty_segmentation", ["1 without a mask (`segmentation`), left out"], {"dog": 2, "cat": 3}),
    ],
)
def test_reported_coco(
    shared_dir: Path, capsys: pytest.CaptureFixture[str], name: str, lines: list[str], objects: Any
) -> None:
    root = shared_dir / "reports" / name
    figures = run_datasets(captions={"mine": str(root)})["captions"]["mine"]
    assert figures["train"].get("objects") == objects
    printed = [line for line in capsys.readouterr().out.splitlines() if "objects: " in line]
    assert len([line for line in printed if "train" in line]) == len(lines)
    assert all(part in "\n".join(printed) for part in lines)
    assert len(read_manifest(paths.DATASETS_MANIFEST).captions_of("train")) == 6


def test_reported_run_lengths(shared_dir: Path) -> None:
    message = r".*instances_train2017\.json: .*\[64, 72\], not \[72, 64\]"
    with pytest.raises(InputError, match=rf"^download\.folders\.captions\.mine: {message}"):
        run_datasets(captions={"mine": str(shared_dir / "reports" / "coco_rle_wrong_size")})


def test_reported_voc(shared_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = shared_dir / "reports" / "voc_swapped_box"
    captions = {"mine": str(shared_dir / "reports" / "coco_bom")}
    assert run_datasets(captions=captions, voc2007=str(root))["voc2007"]["trainval"]["images"] == 9
    assert "Annotations: objects: 1 with swapped corners, put right (such as trainval00.xml)" in (
        capsys.readouterr().out
    )


@pytest.fixture
def boxes_only(tmp_path: Path) -> Path:
    """Captions and objects without masks, two images a split."""
    root = tmp_path / "boxes"
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (root / f"{split}2017").mkdir()
        images = [{"id": key, "file_name": f"{key}.jpg", "width": 40, "height": 30} for key in (1, 2)]
        for image in images:
            pixels = np.full((30, 40, 3), 90, np.uint8)
            (root / f"{split}2017" / image["file_name"]).write_bytes(encode_jpeg(pixels, 90))
        captions = [{"id": key, "image_id": key, "caption": "a gray wall"} for key in (1, 2)]
        things = [
            {"id": key, "image_id": key, "category_id": 1, "bbox": [1, 1, 9, 9], "segmentation": []}
            for key in (1, 2)
        ]
        for kind, annotations in (("captions", captions), ("instances", things)):
            parsed = {
                "images": images, "annotations": annotations, "categories": [{"id": 1, "name": "wall"}]
            }  # fmt: skip
            (root / "annotations" / f"{kind}_{split}2017.json").write_text(json.dumps(parsed))
    return root


def test_objects_without_masks_do_not_stop_pretraining(
    boxes_only: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = run_datasets(captions={"coco": str(boxes_only)})["captions"]["coco"]
    assert figures["train"] == {"images": 2, "captions": 2, "objects": {"wall": 2}}
    assert "none has a mask (`segmentation`), so segmentation cannot be measured" in capsys.readouterr().out
    assert read_manifest(paths.DATASETS_MANIFEST).object_labels_of("train").categories == ("wall",)

    folder = paths.stage_dir("coco_segmentation", "random")
    folder.mkdir(parents=True)
    settings = read_section(params.CocoSegmentation, REPOSITORY / "params.yaml")
    detection.main(StageRun("detection", "coco_segmentation-random", folder, None), settings)
    assert json.loads((folder / "metrics.json").read_text()) == {
        "not_run": "no object of the training images has a mask (`segmentation`)"
    }


def test_voc2012_is_checked_before_anything_is_trained(tmp_path: Path, shared_dir: Path) -> None:
    root = tmp_path / "VOC"
    given = shared_dir / "reports" / "voc_swapped_box"
    shutil.copytree(given / "VOC2007", root / "VOC2012")
    captions = {"mine": str(shared_dir / "reports" / "coco_bom")}
    run_datasets(captions=captions, voc2007=str(given), voc2012=str(root))
    path = root / "VOC2012" / "Annotations" / "trainval03.xml"
    good = path.read_text()
    changes = (("<xmin>5", "<xmin>nan", "broken annotation: <bndbox>"), (">dog", ">zebu", "of class 'zebu'"))
    for old, new, message in changes:
        path.write_text(good.replace(old, new, 1))
        with pytest.raises(InputError, match=rf"^download\.folders\.voc2012: .*trainval03\.xml: .*{message}"):
            run_datasets(captions=captions, voc2007=str(given), voc2012=str(root))
    path.write_text(good)
    for name in ("SegmentationClass", "ImageSets/Segmentation"):
        (root / "VOC2012" / name).mkdir()
    with pytest.raises(InputError, match=r"^download\.folders\.voc2012: .*Segmentation/train\.txt: no such"):
        run_datasets(captions=captions, voc2007=str(given), voc2012=str(root))
