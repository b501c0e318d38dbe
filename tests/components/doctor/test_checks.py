"""Each check on a machine that is well and on one that is not."""

import resource
import subprocess
import sys
from collections import namedtuple
from types import SimpleNamespace

import pytest

from components.core import machine, memory
from components.core.errors import InputError
from components.doctor import capacity, software

FP16 = ("pretrain.precision=fp16",)


def one(check, sections=None):
    (finding,) = check(sections or {})
    return finding


def test_python_and_packages_here_are_fine():
    assert one(software.python).state == "fine"
    assert one(software.packages).state == "fine"


def test_a_package_of_another_version_or_missing(monkeypatch):
    asked = ["lmdb>=99", "no-such-thing>=1", "timm>=99; extra == 'export'", "numpy"]
    monkeypatch.setattr(software.metadata, "requires", lambda name: asked)
    found = one(software.packages)
    assert found.state == "broken"
    assert "lmdb is " in found.found
    assert "no-such-thing is missing" in found.found
    assert "timm" not in found.found


def test_an_old_python(monkeypatch):
    monkeypatch.setattr(software.metadata, "metadata", lambda name: {"Requires-Python": ">=3.99"})
    assert one(software.python).state == "broken"


def test_git(workspace, monkeypatch):
    assert one(software.git).state == "broken"  # no repository
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run(["git", *arguments], check=True, cwd=workspace)
    assert one(software.git).state == "fine"
    monkeypatch.setenv("PATH", str(workspace))
    assert "apt-get" in one(software.git).advice


def test_torch_that_does_not_load(monkeypatch):
    assert one(software.torch_and_torchvision).state == "fine"
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert one(software.torch_and_torchvision).state == "broken"


@pytest.mark.parametrize(
    ("driver", "overrides", "state", "words"),
    [
        (None, (), "fine", "does not ask"),
        (None, FP16, "broken", "pretrain.precision: fp16"),
        ("570.1", (), "attention", "cannot use it"),
        ("570.1", FP16, "broken", "cannot use it"),
        (None, ("schedule.iterations=500000", "augmentation.crop_size=224"), "attention", "weeks"),
    ],
)
def test_without_a_gpu(monkeypatch, sections, driver, overrides, state, words):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(software, "_driver", lambda: driver)
    found = one(software.gpus, sections(*overrides))
    assert found.state == state
    assert words in found.found
    assert found.advice or state == "fine"


def test_a_device_that_is_not_there(monkeypatch):
    def refuse():
        raise InputError("VIRTEX_DEVICE='cuda:9': cannot be used here")

    monkeypatch.setattr(machine, "device_name", refuse)
    assert one(software.gpus).state == "broken"


@pytest.mark.parametrize(
    ("free", "result", "state", "words"),
    [
        (70e9, 72.0, "fine", "70.0 GB free of 80.0 GB"),
        (10e9, 72.0, "attention", "others are using it"),
        (70e9, 71.0, "broken", "wrong figures"),
        (70e9, RuntimeError("no kernel image is available\nmore"), "broken", "no kernel image is available"),
    ],
)
def test_a_gpu_is_put_to_work(free, result, state, words):
    """On torch's CPU in disguise: no GPU is asked."""
    import contextlib

    import torch

    def conv2d(*_):
        if isinstance(result, Exception):
            raise result
        return torch.full((1,), result)

    fake = SimpleNamespace(
        cuda=SimpleNamespace(
            device=lambda number: contextlib.nullcontext(),
            get_device_name=lambda number: "A GPU",
            get_device_capability=lambda number: (9, 0),
            mem_get_info=lambda number: (free, 80e9),
        ),
        ones=lambda *shape, device: torch.ones(*shape),
        nn=SimpleNamespace(functional=SimpleNamespace(conv2d=conv2d)),
    )
    found = software._gpu(fake, 0)
    assert found.state == state
    assert words in found.found


def test_a_full_disk(monkeypatch, sections):
    usage = namedtuple("usage", "total used free")
    assert one(capacity.disk, sections()).state == "fine"
    for free, state in ((10**8, "broken"), (25 * 10**8, "attention")):
        monkeypatch.setattr(capacity.shutil, "disk_usage", lambda _, free=free: usage(9, 9, free))
        found = one(capacity.disk, sections())
        assert found.state == state
        assert "resume checkpoints" in found.found
        assert "dvc gc" in found.advice


def test_little_memory(monkeypatch, sections):
    monkeypatch.setattr(capacity, "machine_memory", lambda: (64e9, 32e9))
    assert one(capacity.memory, sections()).state == "fine"
    monkeypatch.setattr(capacity, "machine_memory", lambda: (64e9, 2e9))
    assert one(capacity.memory, sections()).state == "attention"


def test_a_container_with_less_memory(monkeypatch, tmp_path):
    limit = tmp_path / "memory.max"
    limit.write_text("1000000\n")
    monkeypatch.setattr(memory, "CGROUP_LIMITS", (tmp_path / "absent", limit))
    assert memory.machine_memory()[0] == 10**6
    limit.write_text("max\n")
    assert memory.machine_memory()[0] > 10**6


def test_small_shared_memory(monkeypatch, sections):
    assert one(capacity.shared_memory, sections()).state in ("fine", "broken")
    monkeypatch.setattr(capacity.os, "statvfs", lambda _: SimpleNamespace(f_bavail=1, f_frsize=4096))
    found = one(capacity.shared_memory, sections())
    assert found.state == "broken"
    assert "--shm-size" in found.advice


@pytest.mark.parametrize(
    ("limits", "state"),
    [((256, 4096), "attention"), ((4096, 4096), "fine"), ((resource.RLIM_INFINITY,) * 2, "fine")],
)
def test_open_files(monkeypatch, limits, state):
    monkeypatch.setattr(capacity.resource, "getrlimit", lambda _: limits)
    assert one(capacity.file_descriptors).state == state


def test_data_folders(sections, workspace):
    assert list(capacity.folders(sections())) == []
    overrides = ("download.source=folders", "download.folders.captions={mine: mine.csv}", "select.by=last")
    active = sections(*overrides, "caption.dataset=mine")
    assert "download.folders.captions.mine: mine.csv" in one(capacity.folders, active).found
    (workspace / "mine.csv").touch()
    assert one(capacity.folders, active).state == "fine"


def test_data_in_the_home_folder_or_by_a_pattern(sections, workspace, monkeypatch):
    monkeypatch.setenv("HOME", str(workspace))
    (workspace / "mine.csv").touch()
    for written in ("~/mine.csv", "mine*.csv"):
        path = f"download.folders.captions={{mine: '{written}'}}"
        active = sections("download.source=folders", path, "select.by=last", "caption.dataset=mine")
        assert one(capacity.folders, active).state == "fine"


def test_java_is_away(monkeypatch, workspace):
    monkeypatch.setenv("JAVA_HOME", str(workspace))
    found = one(software.java)
    assert (found.state, "captions cannot be scored" in found.found) == ("broken", True)
    assert one(software.spice).state == "attention"


def test_detectron2_is_broken_only_where_it_is_asked_for(monkeypatch, sections):
    monkeypatch.setitem(sys.modules, "detectron2", None)
    assert one(software.detectron2, sections("benchmarks.detection_backbones=[]")).state == "fine"
    asked = sections("benchmarks.detection_backbones=[virtex]", "voc_detection.engine=detectron2")
    found = one(software.detectron2, asked)
    assert found.state == "broken"
    assert "voc_detection" in found.found
    assert "git+https" in found.advice


def repository(workspace, url: str | None):
    from dvc.repo import Repo

    with Repo.init(str(workspace), no_scm=True) as repo, repo.config.edit("repo") as settings:
        if url:
            settings["remote"]["team"] = {"url": url}


def test_no_repository_and_no_remote(workspace):
    assert one(software.dvc).state == "broken"
    repository(workspace, None)
    assert one(software.dvc).state == "fine"


def test_a_remote_is_written_to_and_left_as_it_was(workspace, tmp_path_factory):
    folder = tmp_path_factory.mktemp("remote")
    repository(workspace, str(folder))
    found = one(software.dvc)
    assert (found.name, found.state) == ("DVC remote team", "fine"), found.found
    assert list(folder.iterdir()) == []


def test_a_remote_that_cannot_be_written_to(workspace, tmp_path_factory):
    blocked = tmp_path_factory.mktemp("remote") / "file"
    blocked.touch()
    repository(workspace, str(blocked / "below"))
    found = one(software.dvc)
    assert found.state == "attention"
    assert "dvc push -r team" in found.advice


def test_a_remote_that_hangs_is_not_waited_for(workspace, tmp_path_factory, monkeypatch):
    import threading

    release = threading.Event()
    monkeypatch.setattr(software, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(software, "_write_and_read", lambda repo, name: release.wait())
    repository(workspace, str(tmp_path_factory.mktemp("remote")))
    found = one(software.dvc)
    release.set()
    assert found.state == "attention"
    assert "no answer within 0 seconds" in found.found


def test_servers(monkeypatch, workspace):
    assert one(software.mlflow).state == one(software.prefect).state == "fine"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    for check in (software.mlflow, software.prefect):
        found = one(check)
        assert found.state == "attention"
        assert "secret" not in found.found
        assert "unset" in found.advice


def test_a_database_that_was_never_finished_is_seen(workspace):
    import sqlite3

    with sqlite3.connect("mlflow.db") as connection:
        connection.execute("CREATE TABLE runs (run_uuid TEXT)")
    found = one(software.mlflow)
    assert (found.state, found.found.endswith("mlflow.db was never finished")) == ("attention", True)
    (workspace / "mlflow.db").write_bytes(b"not SQLite" * 1000)
    found = one(software.mlflow)
    assert found.state == "attention"
    assert "is not a complete SQLite database: file is not a database" in found.found
    assert "move it and mlartifacts aside" in found.advice
