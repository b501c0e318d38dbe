"""Own data in each form, to an index that says the same; files and tar members alike."""

import io
import json
import os
import tarfile
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from components.core.errors import InputError
from components.sources.readers.own.dataset import OwnDataset, is_own, read_own
from components.sources.readers.own.index import read_index
from components.sources.readers.own.sample import OwnImage, OwnSettings, divide
from components.sources.readers.types import CaptionedImage

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
    assert (len(images["train"]), len(images["val"])) == (3, 1)
    whole = contents(images["train"] + images["val"])
    assert whole["mine/b.JPG"] == (IMAGES["b.JPG"], ("caption of b.JPG",))
    assert whole["mine/a.jpg"] == (IMAGES["a.jpg"], ("caption of a.jpg", "by its whole path"))
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
        ({}, "w", "a.tar: empty, or nothing but zeros: an archive without members; make it again"),
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


def test_a_folder_of_every_sort(capsys: pytest.CaptureFixture[str]) -> None:
    nfc, nfd = (unicodedata.normalize(form, "\u00e9") for form in ("NFC", "NFD"))
    photos = Path("photos")
    (photos / "deep" / ".thumbnails").mkdir(parents=True)
    (photos / "@eaDir").mkdir()
    names = (
        "X.JPG", "X.TXT", "y.jfif", "Y.txt", f"{nfc}.avif", f"{nfd}.txt", "z.jpe", "z.txt", "bare.png",
        "alone.txt", "notes.pdf", "._X.JPG", "._X.txt", ".DS_Store", "Thumbs.db", "@eaDir/X.JPG",
        "deep/.thumbnails/X.JPG", "deep/p.1.5.pgm", "deep/p.1.5.txt", "both.HEIC", "both.jpg", "both.txt",
    )  # fmt: skip
    for name in names:
        (photos / name).write_text(f"\ufeff{name}", encoding="utf-8")
    Path("elsewhere").mkdir()
    for name in ("e.jpg", "e.txt"):
        Path("elsewhere", name).write_text(name)
    (photos / "linked").symlink_to(Path("elsewhere").absolute())
    (photos / "a_link_to_deep").symlink_to("deep")
    (photos / "deep" / "loop").symlink_to("..")
    (photos / "deep" / "out").symlink_to("../..")
    (photos / "w.jpg").symlink_to("z.jpe")
    (photos / "w.txt").write_text("w")
    found = read(photos)
    images = from_index(found)
    assert {image.image_id: image.captions for image in images["train"] + images["val"]} == {
        "mine/X.JPG": ("X.TXT",),
        "mine/y.jfif": ("Y.txt",),
        f"mine/{nfc}.avif": (f"{nfd}.txt",),
        "mine/w.jpg": ("w", "z.txt"),
        "mine/deep/p.1.5.pgm": ("deep/p.1.5.txt",),
        "mine/both.jpg": ("both.txt",),
        "mine/linked/e.jpg": ("e.txt",),
    }
    assert found.summary == (
        "mine: took 7 images and 8 captions; left out "
        "6 hidden or companion files and folders (such as photos/.DS_Store), "
        "3 links to folders that were read before (such as photos/a_link_to_deep), "
        "1 images that cannot be decoded beside one of the same name (such as photos/both.HEIC), "
        "1 texts without an image (such as photos/alone.txt), "
        "1 files that are neither images nor texts (such as photos/notes.pdf), "
        "1 images without a caption (such as photos/bare.png); "
        "noted 1 further names of the same image (such as z.jpe)"
    )


def test_one_image_cannot_be_in_two_splits_under_two_names() -> None:
    fill(Path("photos/train"), {"a.txt": "one"})
    fill(Path("photos/val"), {"b.txt": "two"})
    Path("photos/val/x.jpg").symlink_to("../train/a.jpg")
    with pytest.raises(InputError, match=r"'val/x\.jpg' is in val here and in train in .*'train/a\.jpg'"):
        read(Path("photos"))


def test_names_that_are_not_utf8_and_formats_that_cannot_be_decoded() -> None:
    folder = fill(Path("photos"), {"a.txt": "one", "b.txt": "two", "d.heic": "", "d.txt": "four"})
    (folder / "d.webp").unlink()
    for name in (b"caf\xe9.jpg", b"caf\xe9.txt"):
        Path(os.fsdecode(b"photos/" + name)).write_text("three")
    with pytest.raises(InputError, match=r"the name caf\\udce9\.jpg is not UTF-8.*\(2 of 4 images"):
        read(folder)
    found = read(folder, skip=True)
    assert sorted(image.image_id for image in [*found.splits["train"], *found.splits["val"]]) == [
        "mine/a.jpg", "mine/b.JPG"
    ]  # fmt: skip
    assert [(one.image, one.reason) for one in found.left_out] == [
        ("caf\\udce9.jpg", "the name caf\\udce9.jpg is not UTF-8; rename it"),
        ("d.heic", "photos/d.heic: images of this kind cannot be decoded here; convert it to JPEG"),
    ]
    found.summary.encode()


@pytest.mark.parametrize("table", ["metadata.jsonl", "metadata.csv", "metadata.parquet"])
@pytest.mark.parametrize("places", [[""], ["train", "validation", "test"]])
@pytest.mark.parametrize("column", ["text", "caption"])
def test_imagefolder(table: str, places: list[str], column: str) -> None:
    for place in places:
        folder = Path("photos", place)
        for sub in ("train", "val") if place == "" else ("",):
            fill(folder / sub)
        rows = [
            {"file_name": str(path.relative_to(folder)), column: f"of {path.name}"}
            for path in sorted(folder.rglob("[abc].*"))
        ]
        frame = pd.DataFrame(rows)
        if table == "metadata.jsonl":
            frame.to_json(folder / table, orient="records", lines=True)
        elif table == "metadata.csv":
            frame.to_csv(folder / table, index=False)
        else:
            frame.to_parquet(folder / table)
    for path in (Path("photos"), Path("photos", table)) if places == [""] else (Path("photos"),):
        found = read(path)
        assert sum(len(images) for images in from_index(found).values()) == 6
        assert {image.captions for image in found.splits["train"]} >= {("of a.jpg",), ("of b.JPG",)}
    found = read(Path("photos"))
    val = "val" if places == [""] else "validation"
    assert {image.image_id for image in found.splits["val"]} == {
        f"mine/{val}/{name}" for name in ("a.jpg", "b.JPG", "c.png")
    }
    assert f"{len(places) if places != [''] else 2} images that no table names (such as" in found.summary


def test_a_folder_of_parquet_files() -> None:
    for name, numbers in (
        ("train-00000-of-00002", (1, 2)),
        ("train-00001-of-00002", (3,)),
        ("test-0", (4,)),
        ("val", (5,)),
    ):
        Path("hub/data").mkdir(parents=True, exist_ok=True)
        images = [{"bytes": bytes([number]) * 9, "path": None} for number in numbers]
        frame = pd.DataFrame({"image": images, "caption": [[f"{number}", "x"] for number in numbers]})
        frame.to_parquet(f"hub/data/{name}.parquet")
    Path("hub/README.md").touch()
    found = read(Path("hub"))
    images = from_index(found)
    assert [image.read_bytes() for image in images["train"]] == [b"\1" * 9, b"\2" * 9, b"\3" * 9]
    assert [image.captions for image in images["val"]] == [("5", "x")]
    assert found.summary.startswith("mine: took 4 images and 8 captions; left out 1 files that are neither")
    assert "1 images for testing" in found.summary


def test_shards_of_every_sort(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    write_tar(
        shards / "deep" / "er" / "a.TAR",
        {
            "./IMG_1.5.jpg": b"one", "./IMG_1.5.txt": "\ufeffone".encode(), "IMG_1.6.JPEG": b"two",
            "IMG_1.6.TXT": b"two\n\nmore", "v.json": b'\xef\xbb\xbf{"caption": "three"}', "v.jfif": b"three",
            "._v.jfif": b"x", "._v.txt": b"\xff", "__MACOSX/v.jpg": b"", ".hidden/v.jpg": b"", "v.cls": b"7",
        },
    )  # fmt: skip
    (shards / "._b.tar").write_bytes(b"companion")
    (shards / "stray.jpg").touch()
    with tarfile.open(shards / "deep" / "er" / "a.TAR", "a") as tar:
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "v.jfif"
        tar.addfile(link)
    found = read_own(shards, "mine", SETTINGS, Path("data/mine"), False)
    images = from_index(found)
    assert contents(images["train"] + images["val"]) == {
        "mine/deep/er/a/IMG_1.5": (b"one", ("one",)),
        "mine/deep/er/a/IMG_1.6": (b"two", ("two", "more")),
        "mine/deep/er/a/v": (b"three", ("three",)),
    }
    assert found.summary == (
        f"mine: took 3 images and 4 captions; left out 5 hidden or companion files and folders (such as "
        f"{shards}/._b.tar), "
        f"1 files that are neither images nor texts (such as {shards}/deep/er/a.TAR: v.cls), "
        f"1 links and devices in archives (such as {shards}/deep/er/a.TAR: link.jpg), "
        f"1 files beside the archives (such as {shards}/stray.jpg)"
    )


def test_names_in_shards_may_differ_in_case_and_normal_form(tmp_path: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "\u00e9") for form in ("NFC", "NFD"))
    files = {
        "A.JPG": b"a", "a.txt": b"one", f"{nfc}.jpg": b"e", f"{nfd}.json": b'{"caption": "two"}',
        "b.HEIC": b"x", "b.jpg": b"b", "b.txt": b"three", "c.jpg": b"c", "c.heic": b"x", "c.txt": b"four",
        "B.txt": b"nobody's",
    }  # fmt: skip
    found = read(write_tar(tmp_path / "shards" / "a.tar", files))
    whole = contents(found.splits["train"] + found.splits["val"])
    assert whole == {
        "mine/a/A": (b"a", ("one",)), f"mine/a/{nfc}": (b"e", ("two",)), "mine/a/b": (b"b", ("three",)),
        "mine/a/c": (b"c", ("four",)),
    }  # fmt: skip
    assert "left out 2 images that cannot be decoded beside one of the same name" in found.summary
    assert "1 texts without an image (such as" in found.summary


def test_tables_of_other_things_beside_images_are_left_alone() -> None:
    folder = fill(Path("photos"), {"a.txt": "one", "b.txt": "two", "metadata.csv": "camera,lens\n1,2\n"})
    pd.DataFrame({"x": [1]}).to_parquet(folder / "embeddings.parquet")
    found = read(folder)
    assert sum(map(len, found.splits.values())) == 2
    assert "2 files that are neither images nor texts (such as photos/embeddings.parquet)" in found.summary


def test_every_cut_of_a_shard_is_seen_or_costs_nothing(tmp_path: Path) -> None:
    files = {f"{number}.{kind}": b"x" * 700 for number in range(4) for kind in ("jpg", "txt")}
    shard = write_tar(tmp_path / "shards" / "a.tar", files)
    whole = shard.read_bytes()
    refused = 0
    for size in range(0, len(whole), 100):
        shard.write_bytes(whole[:size])
        try:
            found = read(shard)
        except InputError:
            refused += 1
        else:
            assert sum(map(len, found.splits.values())) == 4
    ends = len(whole.rstrip(b"\0")) // 512 * 512 + 1024  # of the last file, and of one block of zeros
    assert refused == len(range(0, ends, 100))
    for more in (whole, b"x"):
        shard.write_bytes(whole + more)
        with pytest.raises(InputError, match=f"something follows its end, from byte {ends - 512:,} on"):
            read(shard)


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
        ("photos/captions.csv: row 4", "no such image: photos/gone.jpg")
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
