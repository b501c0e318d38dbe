"""Datasets as inputs of runs, against a real SQLite store."""

import json
from types import SimpleNamespace

import pytest

from components.tracking.datasets import UsedDataset, inherit_datasets, log_datasets, used_splits
from components.tracking.store import open_store

ENTRY = SimpleNamespace(
    root="/data/VOCdevkit", images={"trainval": 3, "test": 2}, listings={"trainval": "a" * 64}
)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return open_store()


def inputs(store, run_id):
    found = store.client.get_run(run_id).inputs.dataset_inputs
    return sorted((given.dataset.name, given.dataset.digest, given.tags[0].value) for given in found)


def test_a_pipelines_run_has_the_datasets_of_its_stages(store):
    parent, first, second = (store.client.create_run(store.experiment_id).info.run_id for _ in range(3))
    train = UsedDataset("coco train", "1" * 64, "training", "data/lmdb/train.lmdb", {"images": 9})
    log_datasets(store, first, [train, UsedDataset("coco val", "2" * 64, "validation", "x")])
    log_datasets(store, second, [train])
    log_datasets(store, second, [])
    inherit_datasets(store, parent, [first, second, "0" * 32])  # the last is of another store
    expected = [("coco train", "1" * 16, "training"), ("coco val", "2" * 16, "validation")]
    assert inputs(store, parent) == inputs(store, first) == expected
    (of_second,) = store.client.get_run(second).inputs.dataset_inputs
    assert json.loads(of_second.dataset.profile) == {"images": 9}


def test_splits_of_the_manifest_name_no_folder_of_this_machine():
    (used,) = used_splits("VOC2007", ENTRY, {"trainval": "training"})
    assert used == UsedDataset("VOC2007 trainval", "a" * 64, "training", "VOCdevkit", {"images": 3})
