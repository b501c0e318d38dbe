"""Tiny datasets in the published layouts, for tests to break; image files are never opened by readers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BOX_XML = """<annotation><filename>{name}.jpg</filename><size><width>9</width><height>8</height></size>
<object><name>dog</name><difficult>{difficult}</difficult>
<bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>"""


def write(path: Path, text: str = "jpeg") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def edit() -> Callable[[Path, Callable[[Any], Any]], None]:
    """Change a JSON file in place."""

    def change(path: Path, how: Callable[[Any], Any]) -> None:
        parsed = json.loads(path.read_text(encoding="utf-8"))
        how(parsed)
        path.write_text(json.dumps(parsed), encoding="utf-8")

    return change


@pytest.fixture
def coco_root(tmp_path: Path) -> Path:
    """Images 2 and 10 with captions, 3 without, in both splits; objects on 2."""
    root = tmp_path / "coco"
    for split in ("train", "val"):
        images = [{"id": key, "file_name": f"{key:012}.jpg", "width": 3, "height": 4} for key in (10, 2, 3)]
        captions = [(10, "A ten."), (2, "A two.\n"), (2, "  "), (10, "Second TEN")]
        annotations = [{"id": i, "image_id": key, "caption": text} for i, (key, text) in enumerate(captions)]
        write(
            root / f"annotations/captions_{split}2017.json",
            json.dumps({"images": images, "annotations": annotations}),
        )
        objects = [
            {"id": 1, "image_id": 2, "category_id": 7, "bbox": [0, 0, 2, 3.5],
             "segmentation": [[0, 0, 1, 0, 1, 1]]},
            {"id": 2, "image_id": 2, "category_id": 7, "bbox": [0, 0, 2, 3], "iscrowd": 1,
             "segmentation": {"counts": [6, 6], "size": [4, 3]}},
        ]  # fmt: skip
        categories = [{"id": 7, "name": "dog"}, {"id": 9, "name": "traffic light"}]
        parsed = {"images": images, "annotations": objects, "categories": categories}
        write(root / f"annotations/instances_{split}2017.json", json.dumps(parsed))
        for image in images:
            write(root / f"{split}2017" / str(image["file_name"]))
    return root


@pytest.fixture
def lvis_root(tmp_path: Path, coco_root: Path) -> Path:
    """LVIS over ``coco_root``; its val split names an image of train2017, as the real one does."""
    root = tmp_path / "lvis"
    for split in ("train", "val"):
        image = {
            "id": 2,
            "coco_url": "http://host/train2017/000000000002.jpg",
            "width": 3,
            "height": 4,
            "neg_category_ids": [4],
            "not_exhaustive_category_ids": [],
        }
        thing = {
            "id": 1,
            "image_id": 2,
            "category_id": 4,
            "bbox": [0, 0, 1, 1],
            "segmentation": [[0, 0, 1, 0, 1, 1]],
        }
        categories = [{"id": 4, "name": "acorn", "frequency": "r"}]
        parsed = {"images": [image], "annotations": [thing], "categories": categories}
        write(root / f"annotations/lvis_v1_{split}.json", json.dumps(parsed))
    return root


@pytest.fixture
def voc_root(tmp_path: Path) -> Path:
    """Classes cat and dog; trainval 000002, 000001 (in this order), test 000003 with a difficult dog."""
    root = tmp_path / "VOCdevkit"
    sets = root / "VOC2007" / "ImageSets" / "Main"
    write(sets / "trainval.txt", "000002\n000001\n")
    write(sets / "test.txt", "000003\n")
    write(sets / "dog_trainval.txt", "000001  1\n000002 -1\n")
    write(sets / "cat_trainval.txt", "000002  1\n000001 -1\n")
    write(sets / "dog_test.txt", "000003  0\n")
    write(sets / "cat_test.txt", "000003 -1\n")
    write(sets / "dog_train.txt", "garbage that no one reads\n")
    for name in ("000001", "000002", "000003"):
        write(root / "VOC2007" / "JPEGImages" / f"{name}.jpg")
        xml = BOX_XML.format(name=name, difficult=int(name == "000003"))
        write(root / "VOC2007" / "Annotations" / f"{name}.xml", xml)
    return root


@pytest.fixture
def imagenet_root(tmp_path: Path) -> Path:
    """Two classes, two training images and one validation image each."""
    root = tmp_path / "imagenet"
    for wnid in ("n02", "n01"):
        for name in (f"train/{wnid}/{wnid}_2.JPEG", f"train/{wnid}/{wnid}_1.JPEG", f"val/{wnid}/x.jpg"):
            write(root / name)
    return root


@pytest.fixture
def inaturalist_root(tmp_path: Path) -> Path:
    """Categories 5 and 0, one image of each in both splits."""
    root = tmp_path / "inaturalist"
    categories = [{"id": 5, "name": "five"}, {"id": 0, "name": "zero"}]
    for split, first in (("train", 1), ("val", 3)):
        images = [
            {"id": first + i, "file_name": f"train_val2018/Aves/{c}/{first + i}.jpg"}
            for i, c in enumerate((5, 0))
        ]
        labels = [
            {"id": first + i, "image_id": first + i, "category_id": c}
            for i, c in reversed([*enumerate((5, 0))])
        ]
        parsed = {"images": images, "annotations": labels, "categories": categories}
        write(root / f"annotations/{split}2018.json", json.dumps(parsed))
        for image in images:
            write(root / str(image["file_name"]))
    return root
