"""Published files in the layout that their reader takes."""

import json
from pathlib import Path

import pytest

from components.core.errors import InputError
from components.sources.download.unpack import divide_val2017
from components.sources.readers.coco import read_captions, verify_captions


@pytest.fixture
def val2017(tmp_path: Path) -> Path:
    """Twenty images as COCO publishes its val2017, with captions, objects and annotations of no use here."""
    ids = list(range(7, 147, 7))
    names = {key: f"{key:012}.jpg" for key in reversed(ids)}
    images = [{"id": key, "file_name": name, "width": 4, "height": 4} for key, name in names.items()]
    captions = [{"id": n, "image_id": key, "caption": f"image {key}"} for n, key in enumerate(ids * 2)]
    objects = [
        {"id": n + 1, "image_id": key, "category_id": 3, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0,
         "segmentation": [[0, 0, 2, 0, 2, 2]]}
        for n, key in enumerate(ids)
    ]  # fmt: skip
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    for name in names.values():
        (tmp_path / "val2017" / name).write_bytes(b"jpeg")
    for kind, annotations in (("captions", captions), ("instances", objects), ("person_keypoints", [])):
        content = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "cat"}]}
        for split in ("train", "val"):
            (tmp_path / "annotations" / f"{kind}_{split}2017.json").write_text(json.dumps(content))
    return tmp_path


def test_every_tenth_image_of_val2017_validates_and_the_others_train(val2017: Path) -> None:
    divide_val2017(val2017)
    found = verify_captions(val2017, "coco_val2017").figures
    assert found["train"] == {"images": 18, "captions": 36, "objects": {"cat": 18}}
    assert found["val"] == {"images": 2, "captions": 4, "objects": {"cat": 2}}
    assert [image.image_id for image in read_captions(val2017, "val", "x")] == ["x/70", "x/140"]
    assert [len(list((val2017 / f"{split}2017").iterdir())) for split in ("train", "val")] == [18, 2]
    assert len(list((val2017 / "annotations").iterdir())) == 4


def test_an_image_of_val2017_that_is_not_there(val2017: Path) -> None:
    (val2017 / "val2017" / "000000000007.jpg").unlink()
    with pytest.raises(
        InputError, match=r"val2017: lacks 000000000007\.jpg, which captions_val2017\.json lists"
    ):
        divide_val2017(val2017)
