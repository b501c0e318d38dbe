from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import InputError
from components.sources.readers import coco
from components.sources.readers.coco import read_object_labels

Edit = Callable[[Path, Callable[[Any], Any]], None]


def test_labels_are_numbered_by_category_id(coco_root: Path, edit: Edit) -> None:
    path = coco.annotation_path(coco_root, "instances", "train")

    def more(parsed: Any) -> None:
        parsed["categories"].insert(0, {"id": 40, "name": "kite"})
        box = {"image_id": 10, "bbox": [0, 0, 1, 1], "segmentation": []}
        parsed["annotations"] += [
            {**box, "id": 3 + i, "category_id": key} for i, key in enumerate((40, 9, 9))
        ]

    edit(path, more)
    labels = read_object_labels({"mine": coco_root}, "train")
    assert labels.categories == ("dog", "traffic light", "kite")
    assert labels.of_image == {"mine/2": (1,), "mine/10": (2, 3)}


def test_a_crowd_shows_its_category(coco_root: Path, edit: Edit) -> None:
    path = coco.annotation_path(coco_root, "instances", "val")
    edit(path, lambda parsed: parsed["annotations"].pop(0))
    assert read_object_labels({"mine": coco_root}, "val").of_image == {"mine/2": (1,)}


def test_images_get_their_labels(coco_root: Path) -> None:
    images = coco.read_captions(coco_root, "train", "mine")
    labelled = read_object_labels({"mine": coco_root}, "train").added_to(images)
    assert [(image.image_id, image.labels) for image in labelled] == [("mine/2", (1,)), ("mine/10", ())]
    assert read_object_labels({}, "train").added_to(images) == images


def test_categories_of_several_datasets_meet_by_name(coco_root: Path, tmp_path: Path, edit: Edit) -> None:
    other = tmp_path / "other"
    (other / "annotations").mkdir(parents=True)
    path = coco.annotation_path(other, "instances", "train")
    path.write_bytes(coco.annotation_path(coco_root, "instances", "train").read_bytes())

    def rename(parsed: Any) -> None:
        parsed["categories"] = [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}, {"id": 11}]
        parsed["annotations"][0]["category_id"] = 8

    edit(path, rename)
    labels = read_object_labels({"mine": coco_root, "other": other}, "train")
    assert labels.categories == ("dog", "traffic light", "cat", "11")
    assert labels.of_image == {"mine/2": (1,), "other/2": (1, 3)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["annotations"][0].update(category_id=1), "category that `categories` lacks"),
        (lambda p: p["categories"].append({"id": 7}), "occurs twice in `categories`"),
        (lambda p: p.pop("categories"), "under the key `categories`"),
    ],
)
def test_broken_instances(coco_root: Path, edit: Edit, change: Callable[[Any], Any], message: str) -> None:
    edit(coco.annotation_path(coco_root, "instances", "train"), change)
    with pytest.raises(InputError, match=rf"instances_train2017\.json: .*{message}"):
        read_object_labels({"mine": coco_root}, "train")


@pytest.mark.parametrize(("split", "num_labelled", "in_captioned"), [("train", 334, 198), ("val", 204, 204)])
def test_real_labels(shared_dir: Path, split: str, num_labelled: int, in_captioned: int) -> None:
    root = shared_dir / "data" / "real" / "coco"
    labels = read_object_labels({"coco": root}, split)
    assert len(labels.categories) == 80
    places = (0, 11, 79)
    assert [labels.categories[place] for place in places] == ["person", "stop sign", "toothbrush"]
    assert len(labels.of_image) == num_labelled
    images = labels.added_to(coco.read_captions(root, split, "coco"))
    assert sum(bool(image.labels) for image in images) == in_captioned
