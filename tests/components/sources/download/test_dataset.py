"""Published datasets, tiny, from a local server: fetched, recorded, unpacked, unpacked again."""

import hashlib
import io
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from components.core import machine, paths
from components.core.datasets import DATASETS, Archive
from components.core.errors import InputError
from components.sources.download import archives_on_disk, unpack
from components.sources.download.archives_on_disk import read_record
from components.sources.download.dataset import fetch_dataset
from components.sources.download.unpack import require_unpacked, unpack_dataset

from .conftest import HURRIED, Served, Server

FILES = {
    "one.zip": {"train2017/1.jpg": b"jpeg", "train2017/2.jpg": b"jpeg too"},
    "two.zip": {"annotations/captions.json": b"{}"},
}


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def publish(monkeypatch: pytest.MonkeyPatch, dataset: str, archives: dict[str, bytes], **more: Any) -> None:
    """Make a dataset consist of these archives, without official places."""
    monkeypatch.setitem(
        DATASETS,
        dataset,
        replace(
            DATASETS[dataset],
            archives=tuple(
                Archive(name, (), len(data), hashlib.md5(data).hexdigest(), 10**6, **more.get(name, {}))
                for name, data in archives.items()
            ),
        ),
    )


@pytest.fixture(autouse=True)
def in_empty_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIRTEX_UNPACKED_DIR", raising=False)


@pytest.fixture
def coco(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    archives = {name: zipped(files) for name, files in FILES.items()}
    publish(monkeypatch, "coco", archives)
    server.files |= {f"/{name}": Served(data) for name, data in archives.items()}
    return server


def fetched(server: Server) -> str:
    return fetch_dataset("coco", [server.url], 2, HURRIED).key


def test_archives_are_fetched_recorded_and_unpacked(coco: Server) -> None:
    key = fetched(coco)
    folder = paths.ARCHIVES_DIR / "coco"
    assert sorted(path.name for path in folder.iterdir()) == ["archives.json", "one.zip", "two.zip"]
    assert not (paths.INCOMING_DIR / "coco").exists()
    record = read_record(folder)
    assert record.archives["one.zip"].sha256 == hashlib.sha256((folder / "one.zip").read_bytes()).hexdigest()

    root = unpack_dataset("coco")
    assert root == paths.UNPACKED_DIR / f"coco-{key}"
    assert (root / "train2017/2.jpg").read_bytes() == b"jpeg too"
    shutil.rmtree(root)
    assert require_unpacked(root.name) == root
    assert (root / "annotations/captions.json").is_file()
    assert [path.name for path in paths.UNPACKED_DIR.iterdir() if path.is_dir()] == [root.name]


def test_fetching_again_fetches_nothing(coco: Server) -> None:
    key = fetched(coco)
    coco.requests.clear()
    assert fetched(coco) == key
    assert not coco.requests
    assert (paths.ARCHIVES_DIR / "coco" / "two.zip").is_file()


def test_what_arrived_before_a_failure_is_not_fetched_again(coco: Server) -> None:
    second = coco.files.pop("/two.zip")
    with pytest.raises(InputError, match=r"two\.zip: no mirror gave it"):
        fetched(coco)
    assert not (paths.ARCHIVES_DIR / "coco").exists()
    coco.files["/two.zip"] = second
    coco.requests.clear()
    fetched(coco)
    assert {path for path, _, _ in coco.requests} == {"/two.zip"}


def test_unpacked_folders_may_be_shared(
    coco: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTEX_UNPACKED_DIR", str(tmp_path / "shared"))
    key = fetched(coco)
    assert unpack_dataset("coco") == tmp_path / "shared" / f"coco-{key}"
    assert machine.unpacked_dir() == tmp_path / "shared"


def test_an_interrupted_unpacking_leaves_nothing_that_looks_whole(
    coco: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = fetched(coco)
    (paths.UNPACKED_DIR / f".coco-{key}.partial").mkdir(parents=True)  # of a killed process
    (paths.UNPACKED_DIR / f".coco-{key}.partial" / "half").touch()
    right = unpack.extract

    def interrupted(archive: Path, *rest: Any) -> None:
        right(archive, *rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(unpack, "extract", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unpack_dataset("coco")
    assert not [path for path in paths.UNPACKED_DIR.iterdir() if path.is_dir()]
    monkeypatch.setattr(unpack, "extract", right)
    assert not (unpack_dataset("coco") / "half").exists()


def test_the_archives_must_be_here_and_the_same(coco: Server) -> None:
    with pytest.raises(InputError, match=r"run `dvc repro download@coco`, or `dvc pull download@coco`"):
        unpack_dataset("coco")
    fetched(coco)
    with pytest.raises(InputError, match="not those that the datasets stage saw"):
        require_unpacked("coco-000000000000")
    (paths.ARCHIVES_DIR / "coco" / "one.zip").unlink()
    with pytest.raises(InputError, match=r"one\.zip not here"):
        unpack_dataset("coco")


def test_room_is_asked_for_before_anything_is_fetched(coco: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives_on_disk.shutil, "disk_usage", lambda _: _Usage())
    with pytest.raises(
        InputError, match=r"are free on this disk, .* needed \(.* of coco's archives, .*unpacked"
    ):
        fetched(coco)
    assert not coco.requests


class _Usage:
    free = 500 * 10**6 + 100


def test_imagenet_is_fetched_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError) as raised:
        fetch_dataset("imagenet", [], 2, HURRIED)
    message = str(raised.value)
    for expected in (
        "https://image-net.org/download.php",
        "ILSVRC2012_img_train.tar   (MD5 1d675b47d978889d74fa0da5fadfb00e)",
        str(tmp_path / "datasets/incoming/imagenet"),
        "dvc repro download@imagenet",
        "download.folders.imagenet",
    ):
        assert expected in message

    classes = ["n03", "n01", "n02"]  # the numbers of the ground truth are not the sorted order
    train = tarred({f"{wnid}.tar": tarred({f"{wnid}_{i}.JPEG": b"x" for i in (1, 2)}) for wnid in classes})
    val = tarred({f"ILSVRC2012_val_0000000{i}.JPEG": str(i).encode() for i in (1, 2, 3)})
    table = np.array(
        [(number, wnid) for number, wnid in enumerate([*classes, "n99"], 1)],
        dtype=[("ILSVRC2012_ID", object), ("WNID", object)],
    )
    stream = io.BytesIO()
    savemat(stream, {"synsets": table})
    data = "ILSVRC2012_devkit_t12/data"
    kit = tarred(
        {
            f"{data}/meta.mat": stream.getvalue(),
            f"{data}/ILSVRC2012_validation_ground_truth.txt": b"2\n1\n3\n",
        },
        "w:gz",
    )
    names = [archive.name for archive in DATASETS["imagenet"].archives]
    archives = dict(zip(names, (train, val, kit), strict=True))
    publish(
        monkeypatch,
        "imagenet",
        archives,
        **{names[0]: {"into": "train", "inner": True}, names[1]: {"into": "val"}},
    )
    incoming = paths.INCOMING_DIR / "imagenet"
    incoming.mkdir(parents=True)
    for name, content in archives.items():
        (incoming / name).write_bytes(content)
    fetch_dataset("imagenet", [], 2, HURRIED)
    root = unpack_dataset("imagenet")
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.JPEG")}
    assert found == {
        **{f"train/{wnid}/{wnid}_{i}.JPEG": b"x" for wnid in classes for i in (1, 2)},
        "val/n01/ILSVRC2012_val_00000001.JPEG": b"1",
        "val/n03/ILSVRC2012_val_00000002.JPEG": b"2",
        "val/n02/ILSVRC2012_val_00000003.JPEG": b"3",
    }
    assert sorted(path.name for path in root.iterdir()) == ["train", "val"]


def test_the_published_facts_have_the_right_form() -> None:
    archives = {archive for dataset in DATASETS.values() for archive in dataset.archives}  # some serve two
    assert len({archive.name for archive in archives}) == len(archives)
    for dataset in DATASETS.values():
        assert dataset.counts
        for archive in dataset.archives:
            assert archive.urls or dataset.licence
            assert all(url.endswith(f"/{archive.name}") for url in archive.urls)
            assert archive.md5 is None or len(bytes.fromhex(archive.md5)) == 16
            assert archive.size is None or archive.size < archive.unpacked_bytes * 1.1
