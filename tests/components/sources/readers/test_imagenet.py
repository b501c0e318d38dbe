import os
import shutil
from pathlib import Path

import pytest

from components.core.errors import InputError
from components.sources.layout import Tally
from components.sources.readers.imagenet import read_imagenet


def test_sorted_classes_and_images(imagenet_root: Path) -> None:
    train = read_imagenet(imagenet_root, "train")
    assert train.classes == ("n01", "n02")
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert [path.name for path in train.image_paths[:2]] == ["n01_1.JPEG", "n01_2.JPEG"]
    assert read_imagenet(imagenet_root, "val").labels.tolist() == [0, 1]


def test_companions_are_no_images_and_no_classes(imagenet_root: Path) -> None:
    added = (
        "train/n01/._n01_1.JPEG", "train/n01/.DS_Store", "train/.ipynb_checkpoints/x.jpg",
        "train/@eaDir/x.jpg", "val/n01/notes.txt", "val/map.csv", "val/n02/deep/y.jfif",
    )  # fmt: skip
    for name in added:
        path = imagenet_root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    tally = Tally()
    train = read_imagenet(imagenet_root, "train", tally)
    assert (train.classes, len(train.image_paths)) == (("n01", "n02"), 4)
    val = read_imagenet(imagenet_root, "val", tally)
    assert [path.name for path in val.image_paths] == ["x.jpg", "y.jfif", "x.jpg"]
    assert val.labels.tolist() == [0, 1, 1]
    assert tally.line("imagenet", "7") == (
        "imagenet: took 7; left out 4 hidden or companion files and folders "
        f"(such as {imagenet_root}/train/.ipynb_checkpoints), "
        f"1 files outside the classes' folders (such as {imagenet_root}/val/map.csv), "
        f"1 files that are no images (such as {imagenet_root}/val/n01/notes.txt)"
    )


def test_names_that_are_not_utf8(imagenet_root: Path) -> None:
    Path(os.fsdecode(os.fsencode(imagenet_root / "train" / "n01") + b"/caf\xe9.jpg")).touch()
    with pytest.raises(InputError, match=r"caf\\udce9\.jpg: its name is not UTF-8; rename it"):
        read_imagenet(imagenet_root, "train")


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
    with pytest.raises(InputError, match=r"no class folders; .* one folder"):
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
