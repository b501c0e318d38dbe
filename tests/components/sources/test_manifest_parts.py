"""Each part of the manifest changes with what its stages use, and with nothing else."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.sources.manifest import Manifest, read_manifest, write_parts
from components.sources.origins import OwnReading, verify_folders
from components.sources.readers.own.sample import OwnSettings
from components.sources.readers.types import DatasetFolders

DATA = Path("data/datasets")


@pytest.fixture
def parts(
    coco_root: Path, lvis_root: Path, voc_root: Path, imagenet_root: Path, inaturalist_root: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> Callable[[], dict[str, bytes]]:  # fmt: skip
    """Verify COCO, a table of one's own and all benchmarks; the parts' files by folder."""
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "own" / "mine.csv"
    table.parent.mkdir()
    table.write_text("image,caption,split\n1.jpg,A dog.,train\n2.jpg,A cat.,val\n", encoding="utf-8")
    for name in ("1.jpg", "2.jpg"):
        (table.parent / name).write_bytes(b"jpeg")
    settings = OwnSettings("image", "caption", "split", 0.2, 0, 4)
    own = OwnReading(settings, DATA / "captions")
    captions = {"coco": coco_root, "mine": table}
    folders = DatasetFolders(
        captions,
        {"voc2007": voc_root, "imagenet": imagenet_root, "inaturalist": inaturalist_root, "lvis": lvis_root},
    )

    def write() -> dict[str, bytes]:
        manifest, _ = verify_folders(folders, "folders", own)
        write_parts(DATA, manifest, "coco")
        found: dict[str, bytes] = {}
        for path in sorted(DATA.rglob("*")):
            if path.is_file():
                folder = path.relative_to(DATA).parent.as_posix()
                found[folder] = found.get(folder, b"") + path.read_bytes()
        return found

    return write


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    assert before.keys() == after.keys()
    return {folder for folder in before if before[folder] != after[folder]} - {"."}  # report: all of it


def test_all_parts_are_there_whatever_the_run_has(parts: Callable[[], dict[str, bytes]]) -> None:
    assert set(parts()) == {
        ".", "captions", "captions/mine", "images",
        "voc07", "imagenet_linear", "inaturalist", "coco_segmentation", "lvis_segmentation", "voc_detection",
    }  # fmt: skip
    assert set(read_manifest(DATA / "coco_segmentation/manifest.json").captions) == {"coco"}
    assert len(read_manifest(DATA / "captions/manifest.json").captions_of("train")) == 3
    assert read_manifest(DATA / "images/manifest.json").object_labels_of("train").of_image == {"coco/2": (1,)}
    assert list(read_manifest(DATA / "voc_detection/manifest.json").voc_roots) == [2007]


def test_a_dataset_that_the_run_lacks_leaves_an_empty_part(tmp_path: Path) -> None:
    write_parts(tmp_path, Manifest(source="folders", captions={}), "absent")
    assert read_manifest(tmp_path / "coco_segmentation/manifest.json").captions == {}
    assert read_manifest(tmp_path / "voc_detection/manifest.json").voc_roots == {}


def swapped(path: Path) -> None:
    """Other contents; size and time stay."""
    status = path.stat()
    path.write_bytes(path.read_bytes().swapcase())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        (lambda root: swapped(root / "own/1.jpg"), {"images"}),
        (lambda root: replaced(root / "own/mine.csv", "A dog.", "A fox."), {"captions", "captions/mine"}),
        (lambda root: swapped(root / "coco/val2017/000000000002.jpg"), {"images", "coco_segmentation"}),
        # An image without captions is one of those with objects.
        (lambda root: swapped(root / "coco/val2017/000000000003.jpg"), {"images", "coco_segmentation"}),
        (
            lambda root: replaced(root / "coco/annotations/captions_val2017.json", "A two.", "A cat."),
            {"captions"},
        ),
        (
            lambda root: replaced(root / "coco/annotations/instances_val2017.json", "dog", "cow"),
            {"images", "coco_segmentation"},
        ),
        # LVIS has its images from COCO.
        (
            lambda root: swapped(root / "coco/train2017/000000000002.jpg"),
            {"images", "coco_segmentation", "lvis_segmentation"},
        ),
        (
            lambda root: swapped(root / "VOCdevkit/VOC2007/JPEGImages/000001.jpg"),
            {"voc07", "voc_detection"},
        ),
        (
            lambda root: replaced(root / "VOCdevkit/VOC2007/Annotations/000003.xml", "2.5", "1.5"),
            {"voc07", "voc_detection"},
        ),
        (lambda root: swapped(root / "imagenet/val/n01/x.jpg"), {"imagenet_linear"}),
        (lambda root: swapped(root / "inaturalist/train_val2018/Aves/5/1.jpg"), {"inaturalist"}),
    ],
)
def test_a_change_reaches_the_parts_that_use_it(
    parts: Callable[[], dict[str, bytes]], tmp_path: Path, change: Callable[[Path], Any], stale: set[str]
) -> None:
    before = parts()
    assert changed(before, parts()) == set()
    change(tmp_path)
    assert changed(before, parts()) == stale
