"""What the environment says of the machine, right and wrong."""

import os

import pytest

from components.core.errors import InputError
from components.core.machine import (
    device_name,
    is_first_process,
    is_launched,
    loading_workers,
    max_restarts,
    num_cpus,
    num_processes,
)


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTEX_NUM_WORKERS", "7")
    monkeypatch.setenv("VIRTEX_DEVICE", "cpu")
    assert (num_cpus(), device_name()) == (7, "cpu")


def test_without_it_the_machine_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIRTEX_NUM_WORKERS", raising=False)
    monkeypatch.delenv("VIRTEX_DEVICE", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert (num_cpus(), device_name()) == (2, "cuda:0")


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", ""])
def test_a_wrong_number_of_workers_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("VIRTEX_NUM_WORKERS", value)
    with pytest.raises(InputError, match="VIRTEX_NUM_WORKERS="):
        num_cpus()


@pytest.mark.parametrize("value", ["gpu", "cuda:99", "cpu:x"])
def test_a_wrong_device_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("VIRTEX_DEVICE", value)
    with pytest.raises(InputError, match=f"VIRTEX_DEVICE='{value}': cannot be used here"):
        device_name()


def test_one_process_a_gpu_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("VIRTEX_NUM_PROCESSES", "VIRTEX_DEVICE", "VIRTEX_MAX_RESTARTS", "RANK"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    assert num_processes() == 8
    monkeypatch.setenv("VIRTEX_DEVICE", "cuda:3")
    assert num_processes() == 1
    monkeypatch.setenv("VIRTEX_NUM_PROCESSES", "2")
    assert num_processes() == 2
    monkeypatch.setenv("VIRTEX_NUM_PROCESSES", "none")
    with pytest.raises(InputError, match="VIRTEX_NUM_PROCESSES='none'"):
        num_processes()
    assert (is_launched(), is_first_process(), max_restarts()) == (False, True, 0)
    monkeypatch.setenv("VIRTEX_MAX_RESTARTS", "-1")
    with pytest.raises(InputError, match="VIRTEX_MAX_RESTARTS='-1'"):
        max_restarts()


def test_launched_processes_share_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    place = {"RANK": "13", "WORLD_SIZE": "16", "LOCAL_RANK": "5", "LOCAL_WORLD_SIZE": "8"}
    for variable, value in place.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("VIRTEX_DEVICE", raising=False)
    monkeypatch.setenv("VIRTEX_NUM_WORKERS", "36")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    assert (is_launched(), is_first_process()) == (True, False)
    assert (num_cpus(), device_name()) == (4, "cuda:5")
    monkeypatch.setenv("VIRTEX_NUM_WORKERS", "3")
    assert num_cpus() == 1
    monkeypatch.setenv("VIRTEX_DEVICE", "cuda:1")
    with pytest.raises(InputError, match="cannot share one GPU"):
        device_name()


@pytest.mark.parametrize(
    "place",
    [
        {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"},  # one a machine
        {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"},  # --nproc-per-node 1
        {"RANK": "0", "WORLD_SIZE": "1"},  # started by something else than torchrun
    ],
)
@pytest.mark.parametrize("override", [None, "cuda"])
def test_a_single_process_a_machine_has_a_numbered_gpu(
    monkeypatch: pytest.MonkeyPatch, place: dict[str, str], override: str | None
) -> None:
    for variable in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "VIRTEX_DEVICE"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in place.items():
        monkeypatch.setenv(variable, value)
    if override:
        monkeypatch.setenv("VIRTEX_DEVICE", override)
        monkeypatch.setattr("torch.empty", lambda *shape, device: None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert device_name() == "cuda:0"


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    place = {"RANK": "2", "WORLD_SIZE": "3", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "3"}
    for variable, value in place.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("VIRTEX_DEVICE", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(InputError, match=r"3 processes here need a GPU each, and there are 2.*start fewer"):
        device_name()


@pytest.mark.parametrize(("device", "cores", "expected"), [("cuda:1", 4, 4), ("cpu", 4, 3), ("cpu", 1, 1)])
def test_a_cpu_keeps_a_core_for_training(
    monkeypatch: pytest.MonkeyPatch, device: str, cores: int, expected: int
) -> None:
    monkeypatch.setenv("VIRTEX_NUM_WORKERS", str(cores))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert loading_workers(device) == expected
