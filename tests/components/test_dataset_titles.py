"""Drawn shapes and data of one's own are never called by the names of published data."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.core import paths
from components.core.datasets import DATASETS
from components.core.published import BENCHMARKS, CLASSES
from components.dataset_titles import TESTED_ON, dataset_title, layout_note, title_here


def entry(root: str, **images: int) -> dict[str, Any]:
    return {"root": root, "images": images}


DRAWN = {
    "source": "drawn_world",
    "captions": {"coco": entry("data/datasets/coco", train=4000, val=200)},
    "imagenet": entry("data/datasets/imagenet", train=600, val=200),
    "voc2007": entry("data/datasets/VOCdevkit", trainval=600, test=600),
}
OWN = {
    "source": "folders",
    "captions": {"coco": entry("/data/my_coco", train=70), "dogs": entry("dogs.csv", train=7)},
    "imagenet": entry("/data/imagenette2-160", train=9469, val=3925),
    "voc2007": entry("/data/VOCdevkit", trainval=5011, test=4952),
}


def test_the_drawn_world() -> None:
    for name, layout in DATASETS.items():
        assert dataset_title(name, DRAWN) == f"drawn world ({layout.title} layout)"
    assert layout_note("imagenet_linear", DRAWN) == ", drawn world (ImageNet layout)"


def test_data_of_ones_own() -> None:
    assert dataset_title("dogs", OWN) == "dogs"
    assert dataset_title("imagenet", OWN) == "imagenette2-160 (ImageNet layout)"
    assert dataset_title("coco", OWN) == "coco"  # what its owner calls it
    assert layout_note("imagenet_linear", OWN) == ", imagenette2-160 (ImageNet layout)"


def test_published_data_have_their_names_wherever_they_lie() -> None:
    assert dataset_title("voc2007", OWN) == "VOC2007"
    assert layout_note("voc07", OWN) == ""
    published = {"source": "published", "captions": {"coco": entry("x", train=118_287)}}
    assert dataset_title("coco", published) == "COCO"
    assert dataset_title("imagenet", {}) == "ImageNet"  # no manifest
    assert dataset_title("dogs", {}) == "dogs"


def test_numbers_of_classes_are_the_published_ones() -> None:
    for benchmark, classes in CLASSES.items():
        assert DATASETS[TESTED_ON[benchmark]].counts["val"]["classes"] == classes
    on_several = {"probes", "likelihood"}  # each of their figures names its dataset
    assert {benchmark.name for benchmark in BENCHMARKS} - on_several == TESTED_ON.keys()


def test_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert title_here("coco") == "COCO"
    paths.DATASETS_MANIFEST.parent.mkdir(parents=True)
    paths.DATASETS_MANIFEST.write_text(json.dumps(DRAWN))
    assert title_here("coco") == "drawn world (COCO layout)"
    paths.DATASETS_MANIFEST.write_text("{")
    assert title_here("coco") == "COCO"
    paths.DATASETS_MANIFEST.unlink()  # of a run whose stages restored their own part alone
    for part, manifest in (("captions", OWN | {"imagenet": None}), ("imagenet", OWN | {"captions": {}})):
        paths.dataset_part(part).parent.mkdir()
        paths.dataset_part(part).write_text(json.dumps(manifest))
    assert title_here("imagenet") == "imagenette2-160 (ImageNet layout)"
    assert title_here("coco") == "coco"
