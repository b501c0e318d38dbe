from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.core.errors import InputError
from components.sources.readers import voc


def test_labels_in_the_order_of_the_list(voc_root: Path) -> None:
    split = voc.read_voc07(voc_root, "trainval")
    assert [path.name for path in split.image_paths] == ["000002.jpg", "000001.jpg"]
    assert split.classes == ("cat", "dog")
    assert split.labels.dtype == np.int8
    assert split.labels.tolist() == [[1, -1], [-1, 1]]


def test_difficult_stays_zero(voc_root: Path) -> None:
    assert voc.read_voc07(voc_root, "test").labels.tolist() == [[-1, 0]]


def test_objects(voc_root: Path) -> None:
    annotation = voc.read_annotation(voc.annotation_path(voc_root, "000003"))
    assert (annotation.file_name, annotation.width, annotation.height) == ("000003.jpg", 9, 8)
    assert annotation.objects == (
        voc.VocObject("dog", (1.0, 2.5, 3.0, 4.0), difficult=True, truncated=False),
    )


SETS = Path("VOC2007/ImageSets/Main")


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (
            lambda root: (root / "VOC2007/JPEGImages/000001.jpg").unlink(),
            r"lists 2 images, of which 1 .*000001",
        ),
        (lambda root: (root / SETS / "trainval.txt").unlink(), r"trainval\.txt: no such file"),
        (lambda root: (root / SETS / "trainval.txt").write_text(""), "lists no images"),
        (lambda root: (root / SETS / "trainval.txt").write_bytes(b"\xff\xfe1"), "not UTF-8 text"),
        (lambda root: (root / SETS / "cat_trainval.txt").write_bytes(b"\x1f\x8b"), "not UTF-8 text"),
        (lambda root: (root / SETS / "trainval.txt").write_text("1\n1\n"), "lists the image 1 twice"),
        (lambda root: (root / SETS / "dog_trainval.txt").write_text("000001 1\n"), "other images .* 000002"),
        (lambda root: (root / SETS / "dog_trainval.txt").write_text("000001 2\n"), r"dog_trainval\.txt:1: "),
        (
            lambda root: (root / "VOC2007").rename(root / "VOC2012"),
            "contains no VOC2007/; give the folder above",
        ),
        (lambda root: [path.unlink() for path in (root / SETS).glob("*_trainval.txt")], "no class lists"),
        (
            lambda root: (root / SETS / "dog_trainval.txt").rename(root / SETS / "d\udce9_trainval.txt"),
            r"d\\udce9_trainval\.txt: its name is not UTF-8; rename it",
        ),
        (
            lambda root: (
                (root / SETS / "trainval.txt").unlink(),
                (root / SETS / "trainval.txt").symlink_to("gone"),
            ),
            r"trainval\.txt: no such file; this is a link that leads nowhere; expected",
        ),
    ],
)
def test_broken(voc_root: Path, breaking: Callable[[Path], Any], message: str) -> None:
    breaking(voc_root)
    with pytest.raises(InputError, match=message):
        voc.read_voc07(voc_root, "trainval")


def test_wrong_level_names_the_right_folder(voc_root: Path) -> None:
    for wrong in (voc_root / "VOC2007", voc_root.parent):
        with pytest.raises(InputError, match=r"did you mean .*VOCdevkit\?"):
            voc.read_voc07(wrong, "test")


@pytest.mark.parametrize("text", ["<annotation>", "<annotation/>", "<a><filename>x</filename></a>"])
def test_broken_xml(voc_root: Path, text: str) -> None:
    path = voc.annotation_path(voc_root, "000001")
    path.write_text(text)
    with pytest.raises(InputError, match=r"000001\.xml: broken annotation"):
        voc.read_annotation(path)


def test_real(shared_dir: Path) -> None:
    root = shared_dir / "data" / "real" / "voc2007" / "VOCdevkit"
    trainval, test = (voc.read_voc07(root, split) for split in voc.SPLITS)
    assert trainval.labels.shape == (700, 20)
    assert test.labels.shape == (400, 20)
    assert trainval.classes == test.classes
    positives = dict(zip(test.classes, (test.labels == 1).sum(axis=0).tolist(), strict=True))
    assert (positives["person"], positives["aeroplane"], positives["tvmonitor"]) == (134, 21, 32)
    first = voc.read_annotation(voc.annotation_path(root, test.image_paths[0].stem))
    named = {thing.name for thing in first.objects}
    assert named == {name for name, label in zip(test.classes, test.labels[0], strict=True) if label == 1}


def test_companions_are_no_class_lists(voc_root: Path) -> None:
    sets = voc.image_sets_dir(voc_root)
    for name in ("._dog_trainval.txt", ".hidden_trainval.txt", ".DS_Store"):
        (sets / name).write_bytes(b"\x00\x05\x16\x07")
    assert voc.read_voc07(voc_root, "trainval").classes == ("cat", "dog")
