"""Tars on a server say what the same tars on this disk say."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from components.core.errors import InputError
from components.sources.readers.own.dataset import OwnDataset, read_own
from components.sources.readers.own.index import read_index
from components.sources.readers.own.remote_shards import expanded
from components.sources.readers.own.sample import OwnSettings
from tests.conftest import FileServer

SETTINGS = OwnSettings(val_fraction=0.25)
TARS = {
    "a/train-0.tar": {"0.jpg": b"zero", "0.txt": b"first\nsecond", "0.pyd": b"cos\nsystem\n",
                      "s/1.x.png": b"one", "s/1.x.json": json.dumps({"caption": ["third"]}).encode(),
                      "2.jpg": b"bare"},
    "a/train-1.tar": {"0.jpg": b"two", "0.txt": b"fourth"},
    "b/val-0.tar": {"0.jpg": b"three", "0.txt": b"fifth"},
}  # fmt: skip


@pytest.fixture
def wanted(file_server: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Tars on a server, and a working directory with room for them."""
    for name, files in TARS.items():
        path = file_server.folder / name
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for member, content in files.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    (tmp_path / "params.yaml").write_text("stream: {train: true, mixed_tars: null, cache_gib: 1.0}\n")
    monkeypatch.chdir(tmp_path)
    return f"{file_server.url}/{{a/train-0,a/train-1,b/val-0}}.tar"


def read(urls: str, skip: bool = False) -> OwnDataset:
    return read_own(urls, "mine", SETTINGS, Path("data/mine"), skip)


def test_names_in_braces() -> None:
    assert expanded("h/{08..10}-{a,b}.tar") == [f"h/{n}-{x}.tar" for n in ("08", "09", "10") for x in "ab"]
    assert expanded("h/{8..10}.tar") == ["h/8.tar", "h/9.tar", "h/10.tar"]
    assert expanded("h/one.tar g/{1,3}.tar") == ["h/one.tar", "g/1.tar", "g/3.tar"]
    for wrong in ("{3..1}", "{0..999999}", "{a}", "{0..1", "{000..999}{000..999}"):
        with pytest.raises(InputError, match=r"^h/\{"):
            expanded(f"h/{wrong}.tar")


def test_they_say_what_those_on_this_disk_say(wanted: str, file_server: FileServer) -> None:
    found = read(wanted)
    here = read_own(file_server.folder, "mine", SETTINGS, Path("data/here"), False)

    def said(dataset: OwnDataset) -> dict[str, list[tuple[str, tuple[str, ...], bytes, object]]]:
        return {
            split: [(one.image_id, one.captions, one.read_bytes(), one.member) for one in images]
            for split, images in dataset.splits.items()
        }

    assert said(found) == said(here)
    assert [one.image_id for one in found.splits["train"]] == [
        "mine/a/train-0/0", "mine/a/train-0/s/1.x", "mine/a/train-1/0",
    ]  # fmt: skip
    assert "1 files that are neither images nor texts" in found.summary  # the pickle, which nobody reads
    assert (
        file_server.requests.count("/a/train-0.tar") == 2
    )  # its first byte, then the whole, and never again
    for split, images in found.splits.items():
        assert read_index(Path("data/mine"), split, found.root, "mine") == images
    assert str(found.splits["val"][0].place).endswith("b/val-0.tar/0.jpg")


def test_a_tar_that_is_absent_or_cut_is_refused_or_left_out_and_counted(
    wanted: str, file_server: FileServer
) -> None:
    whole = file_server.folder / "a/train-1.tar"
    whole.write_bytes(whole.read_bytes()[:700])
    with pytest.raises(InputError, match=r"/a/train-1\.tar: damaged \("):
        read(wanted)
    found = read(wanted, skip=True)
    assert [(one.image, one.reason[:9]) for one in found.left_out] == [("train-1.tar", "damaged (")]
    assert "1 tars that cannot be read" in found.summary
    assert len(found.splits["train"]) == 2
    whole.unlink()
    with pytest.raises(InputError, match=r"/a/train-1\.tar: HTTP 404"):
        read(wanted)
    assert [one.image for one in read(wanted, skip=True).left_out] == ["train-1.tar"]
    with pytest.raises(InputError, match=r"not one of 1 tars could be read: HTTP 404"):
        read(f"{file_server.url}/a/train-1.tar", skip=True)


def test_a_tar_that_is_there_and_does_not_come_is_never_left_out(wanted: str) -> None:
    Path("params.yaml").write_text("stream: {train: true, mixed_tars: null, cache_gib: 0.000001}\n")
    with pytest.raises(InputError, match=r"train-0\.tar: .* stream\.cache_gib allows for all tars"):
        read(wanted, skip=True)
