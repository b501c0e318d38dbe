import shutil
from pathlib import Path

import pytest

from components.errors import InputError
from components.sources.imagenet import read_imagenet


def test_sorted_classes_and_images(imagenet_root: Path) -> None:
    train = read_imagenet(imagenet_root, "train")
    assert train.classes == ("n01", "n02")
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert [path.name for path in train.image_paths[:2]] == ["n01_1.JPEG", "n01_2.JPEG"]
    assert read_imagenet(imagenet_root, "val").labels.tolist() == [0, 1]


def test_faults(imagenet_root: Path) -> None:
    shutil.rmtree(imagenet_root / "val" / "n02")
    with pytest.raises(InputError, match="train and val have different classes, such as n02"):
        read_imagenet(imagenet_root, "val")
    (imagenet_root / "val" / "n02").mkdir()
    with pytest.raises(InputError, match="n02: a class without images"):
        read_imagenet(imagenet_root, "val")
    shutil.rmtree(imagenet_root / "val")
    (imagenet_root / "val").mkdir()
    (imagenet_root / "val" / "ILSVRC2012_val_00000001.JPEG").touch()
    with pytest.raises(InputError, match=r"no class folders; .* one heap"):
        read_imagenet(imagenet_root, "val")


def test_imagenet_itself_is_read_as_stored_and_own_folders_upright(imagenet_root: Path) -> None:
    assert read_imagenet(imagenet_root, "train").upright
    for split in ("train", "val"):
        (imagenet_root / split / "n01").rename(imagenet_root / split / "n01440764")
    assert read_imagenet(imagenet_root, "train").upright
    for split in ("train", "val"):
        (imagenet_root / split / "n02").rename(imagenet_root / split / "n02102040")
    assert not read_imagenet(imagenet_root, "val").upright


def test_real(shared_dir: Path) -> None:
    val = read_imagenet(shared_dir / "data" / "real" / "imagenette", "val")
    assert (len(val.image_paths), len(val.classes)) == (200, 10)
    assert all(
        path.parent.name == val.classes[label]
        for path, label in zip(val.image_paths, val.labels, strict=True)
    )
