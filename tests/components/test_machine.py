"""What the environment says of the machine, right and wrong."""

import os

import pytest

from components.errors import InputError
from components.machine import device_name, num_cpus


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTEX_NUM_WORKERS", "7")
    monkeypatch.setenv("VIRTEX_DEVICE", "cpu")
    assert (num_cpus(), device_name()) == (7, "cpu")


def test_without_it_the_machine_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIRTEX_NUM_WORKERS", raising=False)
    monkeypatch.delenv("VIRTEX_DEVICE", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert (num_cpus(), device_name()) == (2, "cuda")


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
