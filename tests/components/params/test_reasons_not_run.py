"""Which benchmarks a params.yaml has no data for."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from components.core import paths
from components.params import check_params
from components.params.reading import check_tree, reasons_not_run

REPOSITORY = Path(__file__).resolve().parents[3]
NOTHING = {
    "voc07": "this run has no `voc2007` data",
    "imagenet_linear": "this run has no `imagenet` data",
    "inaturalist": "this run has no `inaturalist` data",
    "lvis_segmentation": "this run has no `lvis` data",
    "coco_segmentation": "this run has no captioned dataset `coco`",
    "voc_detection": "this run has no VOC2007, which the set 2007/trainval needs",
}


def reasons(download: dict[str, Any], **folders: Any) -> dict[str, str]:
    tree = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    tree["select"]["by"] = "last"
    tree["download"] |= download
    tree["download"]["folders"] |= folders
    tree["caption"]["dataset"] = next(iter(tree["download"]["folders"]["captions"]), "coco")
    return reasons_not_run(check_tree(tree, paths.PARAMS))


def without(*stages: str) -> dict[str, str]:
    return {stage: reason for stage, reason in NOTHING.items() if stage not in stages}


def test_the_shipped_parameters_measure_everything() -> None:
    assert reasons_not_run(check_params(REPOSITORY / "params.yaml")) == {}


def test_captions_of_ones_own_alone() -> None:
    assert reasons({"source": "folders"}, captions={"mine": "mine.csv"}) == NOTHING


@pytest.mark.parametrize(
    ("folders", "has"),
    [
        ({"voc2007": "voc"}, ["voc07", "voc_detection"]),
        ({"imagenet": "imagenet"}, ["imagenet_linear"]),
        ({"inaturalist": "inaturalist"}, ["inaturalist"]),
        ({"lvis": "lvis"}, ["lvis_segmentation"]),
        ({"captions": {"coco": "coco"}}, ["coco_segmentation"]),
    ],
)
def test_each_dataset_is_for_its_benchmarks(folders: dict[str, Any], has: list[str]) -> None:
    assert reasons({"source": "folders"}, **({"captions": {"mine": "mine.csv"}} | folders)) == without(*has)


def test_published_and_drawn_ones() -> None:
    published = {"source": "published", "published": ["voc2007", "imagenet"]}
    found = reasons(published, captions={"mine": "mine.csv"})
    assert found == without("voc07", "voc_detection", "imagenet_linear")
    tree = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    tree["download"]["drawn_world"] |= {"imagenet_train_images": 0, "imagenet_val_images": 0}
    tree["voc_detection"]["test_sets"] = ["2007/test", "2012/trainval"]
    assert reasons_not_run(check_tree(tree, paths.PARAMS)) == {
        "imagenet_linear": "this run has no `imagenet` data",
        "voc_detection": "this run has no VOC2012, which the set 2012/trainval needs",
    }
