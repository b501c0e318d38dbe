from pathlib import Path

import pytest

from components.core.errors import InputError
from components.sources.origins import verify_folders
from components.sources.readers.types import DatasetFolders


@pytest.fixture
def folders(
    coco_root: Path, voc_root: Path, imagenet_root: Path, inaturalist_root: Path, lvis_root: Path
) -> DatasetFolders:
    return DatasetFolders(
        {"coco": coco_root},
        {"voc2007": voc_root, "imagenet": imagenet_root, "inaturalist": inaturalist_root, "lvis": lvis_root},
    )


def test_everything_is_counted(folders: DatasetFolders) -> None:
    manifest, figures = verify_folders(folders, "folders")
    split = {"images": 2, "captions": 3, "objects": {"dog": 2, "traffic light": 0}}
    assert figures == {
        "captions": {"coco": {"train": split, "val": split}},
        "voc2007": {
            "trainval": {
                "images": 2,
                "objects": {"cat": 0, "dog": 2},
                "positive_images": {"cat": 1, "dog": 1},
                "difficult_objects": 0,
            },
            "test": {
                "images": 1,
                "objects": {"cat": 0, "dog": 1},
                "positive_images": {"cat": 0, "dog": 0},
                "difficult_objects": 1,
            },
        },
        "imagenet": {"train": {"images": 4, "classes": 2}, "val": {"images": 2, "classes": 2}},
        "inaturalist": {"train": {"images": 2, "classes": 2}, "val": {"images": 2, "classes": 2}},
        "lvis": {split: {"images": 1, "objects": 1, "classes": 1} for split in ("train", "val")},
    }
    assert set(manifest.captions["coco"].annotations) == {
        f"annotations/{kind}_{split}2017.json"
        for kind in ("captions", "instances")
        for split in ("train", "val")
    }
    assert "VOC2007/ImageSets/Main/dog_test.txt" in manifest.benchmarks["voc2007"].annotations
    assert str(manifest.lvis_images_root) == str(folders.captions["coco"])


def test_captions_alone(coco_root: Path) -> None:
    for path in (coco_root / "annotations").glob("instances_*"):
        path.unlink()
    manifest, figures = verify_folders(DatasetFolders({"a": coco_root, "lvis": coco_root}), "folders")
    assert list(manifest.captions) == ["a", "lvis"]
    assert figures["captions"]["a"]["train"] == {"images": 2, "captions": 3}
    assert "voc2007" not in manifest.benchmarks


def test_the_key_at_fault_is_named(folders: DatasetFolders, coco_root: Path) -> None:
    (coco_root / "val2017" / "000000000002.jpg").unlink()
    with pytest.raises(InputError, match=r"^download\.folders\.captions\.coco: .*lists 3 images"):
        verify_folders(folders, "folders")


def test_splits_must_agree(folders: DatasetFolders, voc_root: Path, coco_root: Path) -> None:
    (voc_root / "VOC2007/ImageSets/Main/cat_test.txt").unlink()
    with pytest.raises(InputError, match=r"^download\.folders\.voc2007: .*different classes, such as cat"):
        verify_folders(folders, "folders")
    (voc_root / "VOC2007/Annotations/000003.xml").unlink()
    (voc_root / "VOC2007/ImageSets/Main/cat_test.txt").write_text("000003 -1\n")
    with pytest.raises(InputError, match=r"000003\.xml: no such file"):
        verify_folders(folders, "folders")


def test_a_changed_image_changes_the_manifest(folders: DatasetFolders, coco_root: Path) -> None:
    before, _ = verify_folders(folders, "folders")
    assert verify_folders(folders, "folders")[0] == before
    (coco_root / "train2017" / "000000000002.jpg").write_bytes(b"a longer file")
    after, _ = verify_folders(folders, "folders")
    assert before.captions["coco"].listings["train"] != after.captions["coco"].listings["train"]
    assert before.captions["coco"].listings["val"] == after.captions["coco"].listings["val"]
