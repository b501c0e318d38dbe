import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import InputError
from components.sources.layout import require_images
from components.sources.readers import lvis

Edit = Callable[[Path, Callable[[Any], Any]], None]


def test_images_are_cocos(lvis_root: Path, coco_root: Path) -> None:
    parsed = lvis.read_lvis(lvis_root, "val", coco_root)
    path = lvis.annotation_path(lvis_root, "val")
    assert [lvis.image_name(path, image) for image in parsed["images"]] == ["train2017/000000000002.jpg"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["categories"][0].update(frequency="x"), "`frequency`"),
        (lambda p: p["images"][0].update(neg_category_ids=[5]), "`neg_category_ids`"),
        (lambda p: p["images"][0].update(not_exhaustive_category_ids=[[4]]), "`not_exhaustive_category_ids`"),
        (lambda p: p["images"][0].pop("not_exhaustive_category_ids"), "`not_exhaustive_category_ids`"),
        (lambda p: p["images"][0].update(coco_url="http://host"), "`coco_url`"),
        (lambda p: p["images"][0].update(coco_url="http://host/../x.jpg"), "`coco_url`"),
        (lambda p: p["images"][0].update(coco_url="http://host/val2017/7.jpg"), r"absent: .*val2017/7\.jpg"),
        (lambda p: p["annotations"][0].update(category_id=5), "`categories` lacks"),
    ],
)
def test_broken(
    lvis_root: Path, coco_root: Path, edit: Edit, change: Callable[[Any], Any], message: str
) -> None:
    edit(lvis.annotation_path(lvis_root, "train"), change)
    with pytest.raises(InputError, match=message):
        lvis.read_lvis(lvis_root, "train", coco_root)


def test_real_subset(shared_dir: Path) -> None:
    coco_root = shared_dir / "data" / "real" / "coco"
    path = coco_root / "annotations" / "lvis_v0.5_val_subset.json"
    parsed = json.loads(path.read_text(encoding="utf-8"))
    lvis.check_lvis(path, parsed)
    require_images(coco_root, [lvis.image_name(path, image) for image in parsed["images"]], path)
    assert len(parsed["images"]) == 64
