"""GPU slots and memory, between stages and between processes."""

import contextlib
import os
import subprocess
import sys
import tempfile

import pytest

from components.core.errors import InputError
from pipelines import resources
from pipelines.graph import NO_META, Stage, StageMeta
from pipelines.resources import Turns, visible_gpus

ONE, ALL, HEAVY = StageMeta(gpus=1), StageMeta(gpus="all"), StageMeta(memory_heavy=True)


@pytest.fixture(autouse=True)
def two_gpus(tmp_path, monkeypatch):
    for name in ("VIRTEX_DEVICE", "VIRTEX_GPU_SLOTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5,-1,7")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def held(meta, keep_waiting):
    """Hold the resources of the only stage of a run."""
    return Turns([], 1).turn(Stage("stage", (), (), meta=meta), keep_waiting)


def visible(got):
    return got.variables["CUDA_VISIBLE_DEVICES"]


def never():
    return False


def test_stages_get_gpus_of_their_own():
    with held(ONE, never) as first, held(ONE, never) as second, held(ONE, never) as third:
        assert (visible(first), visible(second), third) == ("3", "5", None)
        with held(ALL, never) as everything:
            assert everything is None
        with held(NO_META, never) as nothing:
            assert visible(nothing) == ""
    with held(ALL, never) as everything, held(ONE, never) as none_left:
        assert visible(everything) == "3,5"
        assert none_left is None


def test_slots_are_shared_on_the_emptier_gpu_first(monkeypatch):
    monkeypatch.setenv("VIRTEX_GPU_SLOTS", "2")
    with contextlib.ExitStack() as stack:
        got = [stack.enter_context(held(ONE, never)) for _ in range(5)]
    assert [visible(one) for one in got[:4]] == ["3", "5", "3", "5"]
    assert got[4] is None


def test_two_gpus_are_two_different_ones(monkeypatch):
    monkeypatch.setenv("VIRTEX_GPU_SLOTS", "2")
    with held(StageMeta(gpus=2), never) as first:
        assert visible(first) == "3,5"
    with held(StageMeta(gpus=4), never) as all_there_are:
        assert visible(all_there_are) == "3,5"


def test_memory_heavy_stages_one_at_a_time_and_nothing_kept_in_vain():
    with held(HEAVY, never) as first, held(HEAVY, never) as second:
        assert first.files
        assert second is None
    with held(ALL, never), held(StageMeta(gpus=1, memory_heavy=True), never) as waiting:
        assert waiting is None
        with held(HEAVY, never) as other:
            assert other


def test_waits_until_it_is_free():
    with contextlib.ExitStack() as before:
        before.enter_context(held(ALL, never))
        with held(ONE, lambda: before.close() or True) as got:
            assert visible(got) == "3"


def test_a_process_that_outlives_the_run_keeps_its_gpu(tmp_path):
    with held(ALL, never) as got:
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=got.files
        )
    with held(ONE, never) as refused:
        assert refused is None
    child.communicate()
    with held(ONE, never) as free:
        assert free


def test_which_gpus(monkeypatch):
    assert visible_gpus() == ["3", "5"]
    monkeypatch.setenv("VIRTEX_DEVICE", "cuda:1")
    assert visible_gpus() == ["5"]
    with held(ONE, never) as got:
        assert got.variables == {"CUDA_VISIBLE_DEVICES": "5", "VIRTEX_DEVICE": "cuda:0"}
    monkeypatch.setenv("VIRTEX_DEVICE", "cpu")
    assert visible_gpus() == []
    with held(ALL, never) as got:
        assert got.variables == {}
    monkeypatch.delenv("VIRTEX_DEVICE")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(resources, "_all_gpus", lambda: ["GPU-a"])
    assert visible_gpus() == ["GPU-a"]


def test_no_driver_is_no_gpu(monkeypatch):
    import pynvml

    def fail():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    assert resources._all_gpus() == []


def test_bad_number_of_slots(monkeypatch):
    monkeypatch.setenv("VIRTEX_GPU_SLOTS", "half")
    with pytest.raises(InputError, match="VIRTEX_GPU_SLOTS"), held(ONE, never):
        pass


def test_locks_in_a_folder_of_somebody_else(tmp_path, monkeypatch):
    other = os.getuid() + 1
    (tmp_path / f"virtex-{other}").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: other)
    with pytest.raises(InputError, match="set TMPDIR"), held(ONE, never):
        pass
