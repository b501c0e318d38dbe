"""Own data in each form, to an index that says the same; files and tar members alike."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.errors import InputError
from components.sources.captioned import CaptionedImage
from components.sources.own.dataset import OwnDataset, is_own, read_own
from components.sources.own.index import read_index
from components.sources.own.sample import OwnImage, OwnSettings
from components.sources.own.splits import divide

SETTINGS = OwnSettings(val_fraction=0.25)
IMAGES = {name: f"bytes of {name}".encode() for name in ("a.jpg", "b.JPG", "c.png", "d.webp")}


@pytest.fixture(autouse=True)
def in_empty_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fill(folder: Path, texts: dict[str, str] | None = None) -> Path:
    folder.mkdir(parents=True)
    for name, content in IMAGES.items():
        (folder / name).write_bytes(content)
    for name, text in (texts or {}).items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def read(path: Path, skip: bool = False, settings: OwnSettings = SETTINGS) -> OwnDataset:
    assert is_own(path)
    return read_own(path, "mine", settings, Path("data/mine"), skip)


def from_index(found: OwnDataset) -> dict[str, list[CaptionedImage]]:
    read_back = {split: read_index(Path("data/mine"), split, found.root, "mine") for split in found.splits}
    assert read_back == found.splits, "the index says all that the reader said"
    return read_back


def contents(images: list[CaptionedImage]) -> dict[str, tuple[bytes, tuple[str, ...]]]:
    return {image.image_id: (image.read_bytes(), image.captions) for image in images}


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_a_table_of_paths() -> None:
    folder = fill(Path("photos"))
    rows = "".join(f"{name},caption of {name}\n" for name in IMAGES)
    (folder / "captions.csv").write_text(
        f"image,caption\n{rows}{folder.absolute()}/a.jpg,by its whole path\n"
    )
    found = read(folder / "captions.csv")
    images = from_index(found)
    assert (len(images["train"]), len(images["val"])) == (4, 1)
    whole = contents(images["train"] + images["val"])
    assert whole["mine/b.JPG"] == (IMAGES["b.JPG"], ("caption of b.JPG",))
    assert whole[f"mine/{folder.absolute()}/a.jpg"] == (IMAGES["a.jpg"], ("by its whole path",))
    assert found.sources == [folder / "captions.csv"]


def test_a_folder_with_texts() -> None:
    folder = fill(Path("photos"), {"a.txt": "one\n\n two \n", "b.txt": "three", "readme.txt": "no image's"})
    (folder / "empty").mkdir()
    found = read(folder)
    images = from_index(found)
    assert contents(images["train"] + images["val"]) == {
        "mine/a.jpg": (IMAGES["a.jpg"], ("one", "two")),
        "mine/b.JPG": (IMAGES["b.JPG"], ("three",)),
    }
    assert found.without_captions == 2
    assert found.sources == [folder / "a.txt", folder / "b.txt"]


def test_folders_named_train_and_val_are_splits() -> None:
    fill(Path("photos/train"), {"a.txt": "one"})
    fill(Path("photos/val"), {"b.txt": "two"})
    images = from_index(read(Path("photos")))
    assert [image.image_id for image in images["train"]] == ["mine/train/a.jpg"]
    assert [image.image_id for image in images["val"]] == ["mine/val/b.JPG"]


def test_two_images_must_not_share_a_text() -> None:
    folder = fill(Path("photos"), {"a.txt": "one"})
    (folder / "a.png").touch()
    with pytest.raises(InputError, match=r"a\.txt: belongs to a\.jpg and to a\.png"):
        read(folder)


def test_webdataset_shards(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    write_tar(
        shards / "train-0000.tar",
        {
            "0.jpg": b"zero", "0.txt": b"first\nsecond", "0.json": b'{"caption": "not this"}',
            "sub/1.png": b"one", "sub/1.json": json.dumps({"caption": ["third", "fourth"]}).encode(),
            "2.jpg": b"without a caption", "3.txt": b"without an image",
        },
    )  # fmt: skip
    write_tar(shards / "val-0000.tar", {"0.txt": "åtta".encode(), "0.jpg": b"eight", "0.cls": b"7"})
    for path in (shards, shards / "*.tar"):
        found = read_own(path, "mine", SETTINGS, Path("data/mine"), False)
        images = from_index(found)
        assert contents(images["train"]) == {
            "mine/train-0000/0": (b"zero", ("first", "second")),
            "mine/train-0000/sub/1": (b"one", ("third", "fourth")),
        }
        assert contents(images["val"]) == {"mine/val-0000/0": (b"eight", ("åtta",))}
        assert images["train"][1].place == shards / "train-0000.tar" / "sub/1.png"
        assert found.without_captions == 1


@pytest.mark.parametrize(
    ("files", "mode", "fault"),
    [
        ({"0.jpg": b"0", "0.txt": b"x"}, "w:gz", "not an uncompressed tar archive"),
        ({"0.jpg": b"0", "0.png": b"1", "0.txt": b"x"}, "w", r"0\.png: the key '0' has a second image"),
        ({"0.jpg": b"0", "0.json": b"{"}, "w", "a.tar: 0: broken text"),
        ({"0.jpg": b"0", "0.json": b'{"caption": 3}'}, "w", r"0\.json, `caption`: expected a text or a list"),
        ({"0.jpg": b"0", "0.txt": b"\xff"}, "w", "a.tar: 0: broken text"),
    ],
)
def test_broken_shards(tmp_path: Path, files: dict[str, bytes], mode: str, fault: str) -> None:
    write_tar(tmp_path / "shards" / "a.tar", files, mode)
    with pytest.raises(InputError, match=fault):
        read(tmp_path / "shards")


def test_a_shard_that_is_cut_short(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "shards" / "a.tar", {"0.jpg": bytes(5000), "0.txt": b"x"})
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(InputError, match="damaged"):
        read(shard)


def test_missing_files_are_refused_or_left_out() -> None:
    folder = fill(Path("photos"))
    (folder / "captions.csv").write_text("image,caption\na.jpg,one\nb.JPG,two\ngone.jpg,three\n")
    with pytest.raises(InputError, match=r"captions\.csv: row 4: no such image: photos/gone\.jpg \(1 of 3"):
        read(folder / "captions.csv")
    found = read(folder / "captions.csv", skip=True)
    assert [(one.where, one.reason) for one in found.left_out] == [
        ("photos/captions.csv: row 4", "no such file")
    ]


@pytest.mark.parametrize("path", ["absent.csv", "shards-*.tar", "empty"])
def test_what_is_nothing_of_all_this(path: str) -> None:
    Path("empty").mkdir()
    with pytest.raises(InputError, match=r"expected a dataset in COCO layout .* a table .* WebDataset"):
        read(Path(path))


def images_of(*splits: str | None) -> list[OwnImage]:
    return [OwnImage(str(number), f"row {number}", Path("x"), split=s) for number, s in enumerate(splits)]


def test_the_seed_divides_whatever_the_order() -> None:
    images = images_of(*[None] * 40)
    parts = divide(images, SETTINGS, "mine")
    assert (len(parts["train"]), len(parts["val"])) == (30, 10)
    backwards = divide(images[::-1], SETTINGS, "mine")
    assert {image.key for image in backwards["val"]} == {image.key for image in parts["val"]}
    other = divide(images, replace(SETTINGS, seed=1), "mine")
    assert {image.key for image in other["val"]} != {image.key for image in parts["val"]}
    more = divide(images_of(*[None] * 44), SETTINGS, "mine")
    assert len({image.key for image in parts["val"]} - {image.key for image in more["val"]}) <= 4


@pytest.mark.parametrize(
    ("splits", "fault"),
    [
        (["train", None], "row 1: no split, though others have one"),
        (["train", "test"], "no image has the split `val`"),
        ([None], "one image; expected at least two"),
    ],
)
def test_divisions_that_leave_nothing(splits: list[Any], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        divide(images_of(*splits), SETTINGS, "mine")
