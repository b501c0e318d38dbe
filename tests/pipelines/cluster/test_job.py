"""What a stage reads, and what it asks of a machine."""

import pytest

from pipelines.cluster.job import (
    FETCHED_BYTES,
    demands,
    inputs_of,
    outdated_outputs,
    small_outputs,
    sources_of,
)
from pipelines.dvc_internals import read_plan
from pipelines.graph import Stage, StageMeta
from tests.pipelines.conftest import REPOSITORY

LAPTOP = {"GPU": 0.0, "CPU": 4.0, "MEMORY": 1.0}
SERVER = {"GPU": 8.0, "CPU": 64.0, "MEMORY": 1.0}


def stage(name, deps=(), outs=(), upstream=()):
    return Stage(name, tuple(upstream), tuple(outs), deps=tuple(deps))


FIRST = stage("first", outs=["data/out", "outputs/first/metrics.json"])


@pytest.mark.parametrize(
    ("dep", "inputs"),
    [
        ("data/out", ("data/out",)),
        ("data/out/part.txt", ("data/out/part.txt",)),
        ("outputs/first", ("outputs/first/metrics.json",)),
        ("data/other", ()),
        ("data/outside", ()),
    ],
)
def test_a_part_of_an_output_and_a_folder_of_outputs(dep, inputs):
    assert inputs_of(stage("second", deps=[dep, "components/core/errors.py"]), [FIRST]) == inputs


def test_the_real_stages(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    stages = {found.name: found for found in read_plan().stages}
    for found in stages.values():
        sources = sources_of(found, stages.values())
        assert {source.name for source in sources} >= set(found.upstream)
        read = inputs_of(found, sources)
        for name in found.upstream:  # what orders two stages is a file
            assert any(path.startswith(out) for path in read for out in stages[name].outs), (found.name, name)


def test_files_unpacked_from_archives_need_the_archives():
    download = stage("download@coco", outs=["datasets/archives/coco", "outputs/download/coco/metrics.json"])
    datasets = stage("datasets", ["datasets/archives"], ["data/datasets"], ["download@coco"])
    lmdb = stage("lmdb", ["data/datasets/manifest.json"], ["data/lmdb"], ["datasets"])
    train = stage("train", ["data/lmdb"], ["outputs/train"], ["lmdb"])
    stages = [download, datasets, lmdb, train]
    assert sources_of(lmdb, stages) == [download, datasets]
    assert inputs_of(lmdb, [download, datasets]) == ("data/datasets", "datasets/archives/coco")
    assert sources_of(train, stages) == [lmdb]
    assert inputs_of(train, [lmdb]) == ("data/lmdb",)


def test_large_outputs_stay_in_the_remote():
    outs = [{"path": "a", "size": FETCHED_BYTES}, {"path": "b", "size": FETCHED_BYTES + 1}]
    assert small_outputs({"outs": outs}) == ["a"]
    assert small_outputs({}) == []


def test_what_lies_here_of_an_earlier_make(tmp_path):
    for name in ("same", "other"):
        (tmp_path / name).touch()
    before = {"outs": [{"path": name, "md5": "1"} for name in ("same", "other", "absent")]}
    after = {"outs": [{"path": "same", "md5": "1"}, *({"path": n, "md5": "2"} for n in ("other", "absent"))]}
    assert outdated_outputs(tmp_path, before, after) == [tmp_path / "other"]


@pytest.mark.parametrize(
    ("meta", "machines", "reserved"),
    [
        ({}, [LAPTOP, SERVER], {"CPU": 1}),
        ({"gpus": 1}, [LAPTOP, SERVER], {"GPU": 1, "CPU": 1}),
        ({"gpus": 1}, [LAPTOP], {"CPU": 1}),  # a cluster without GPUs runs it without
        ({"gpus": "all", "cpus": "all"}, [SERVER, LAPTOP], {"GPU": 8, "CPU": 64}),
        ({"cpus": "all"}, [LAPTOP, SERVER], {"CPU": 64}),
        ({"cpus": 16}, [LAPTOP], {"CPU": 4}),  # as much as there is
        ({"memory_heavy": True}, [LAPTOP], {"CPU": 1, "MEMORY": 1}),
        ({"gpus": 2}, [], {}),
    ],
)
def test_demands(meta, machines, reserved):
    assert demands(StageMeta(**meta), machines) == reserved
