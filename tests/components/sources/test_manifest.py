import json
from pathlib import Path

import pytest

from components.core.datasets import BENCHMARK_DATASETS
from components.core.errors import InputError
from components.sources.manifest import Manifest, read_manifest, write_manifest
from components.sources.origins import verify_folders
from components.sources.readers.types import DatasetFolders


@pytest.fixture
def manifest(coco_root: Path, voc_root: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Two captioned datasets (the same files twice), and VOC; the repository root is above them."""
    monkeypatch.chdir(coco_root.parent)
    return verify_folders(
        DatasetFolders({"one": coco_root, "two": coco_root}, {"voc2007": voc_root}), "folders"
    )[0]


def test_there_and_back(manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "data" / "manifest.json"
    write_manifest(path, manifest)
    assert read_manifest(path) == manifest
    first = path.read_bytes()
    write_manifest(path, manifest)
    assert path.read_bytes() == first
    written = json.loads(first)
    assert (written["format"], written["version"], written["source"]) == ("virtex-datasets", 1, "folders")
    assert written["captions"]["one"]["num_captions"] == {"train": 3, "val": 3}
    assert list(written) == ["format", "version", "source", "captions", *BENCHMARK_DATASETS]
    assert written["voc2007"]["root"] == "VOCdevkit"
    assert written["imagenet"] is None


def test_roots_inside_the_repository_are_relative(
    manifest: Manifest, coco_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert manifest.captions["one"].root == "coco"
    monkeypatch.chdir(coco_root / "train2017")
    outside, _ = verify_folders(DatasetFolders({"one": Path("../../coco")}), "folders")
    assert outside.captions["one"].root == str(coco_root)


def test_captions_of_all_datasets_or_one(manifest: Manifest) -> None:
    assert [image.image_id for image in manifest.captions_of("train")] == [
        "one/2",
        "one/10",
        "two/2",
        "two/10",
    ]
    assert [image.image_id for image in manifest.captions_of("val", "two")] == ["two/2", "two/10"]
    assert all(image.path.is_file() for image in manifest.captions_of("val"))
    with pytest.raises(InputError, match="no captioned dataset `three` in this run; there is: one, two"):
        manifest.captions_of("val", "three")


def test_object_labels_of_datasets_that_have_them(manifest: Manifest, coco_root: Path) -> None:
    assert manifest.object_labels_of("train").of_image == {"one/2": (1,), "two/2": (1,)}
    path = coco_root / "annotations" / "instances_train2017.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "\n")
    with pytest.raises(InputError, match=r"instances_train2017\.json: changed since"):
        manifest.object_labels_of("train")
    assert manifest.captions_of("train")
    path.unlink()
    with pytest.raises(InputError, match=r"instances_train2017\.json: was there .* and is gone"):
        manifest.object_labels_of("train")
    bare, _ = verify_folders(DatasetFolders({"one": coco_root}), "folders")
    assert bare.object_labels_of("train").categories == ()
    path.write_text(text)
    with pytest.raises(InputError, match="changed since the datasets stage ran"):
        bare.object_labels_of("train")


def test_roots_of_benchmarks(manifest: Manifest) -> None:
    assert manifest.root_of("voc2007") == Path("VOCdevkit")
    with pytest.raises(InputError, match=r"no `imagenet` data; .* download\.folders"):
        manifest.root_of("imagenet")


def test_changed_annotations_are_refused(manifest: Manifest, coco_root: Path, voc_root: Path) -> None:
    path = coco_root / "annotations" / "captions_train2017.json"
    path.write_text(path.read_text(encoding="utf-8") + "\n")
    with pytest.raises(InputError, match=r"captions_train2017\.json: changed since .*dvc repro -f datasets"):
        manifest.captions_of("train")
    assert len(manifest.captions_of("val")) == 4
    (voc_root / "VOC2007/ImageSets/Main/test.txt").unlink()
    with pytest.raises(InputError, match=r"test\.txt: was there .* and is gone"):
        _ = manifest.root_of("voc2007")


def test_moved(manifest: Manifest, coco_root: Path) -> None:
    moved = manifest.moved(coco_root, Path("data/datasets/coco"))
    assert moved.captions["two"].root == "data/datasets/coco"
    assert moved.benchmarks == manifest.benchmarks
    assert moved.moved(Path("data/datasets"), coco_root.parent) == manifest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "the file: Invalid JSON"),
        ('{"format": "virtex-datasets", "version": 2, "source": "x", "captions": {}}', "version: .*1; run"),
        ('{"source": "x", "captions": {"a": {"root": 3}}}', r"captions\.a\.root"),
    ],
)
def test_broken_manifest(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "manifest.json"
    with pytest.raises(InputError, match="run the datasets stage first"):
        read_manifest(path)
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_manifest(path)
