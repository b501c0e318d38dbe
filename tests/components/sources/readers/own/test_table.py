import base64
import bz2
import gzip
import json
import lzma
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from components.core.errors import InputError
from components.sources.layout import Tally
from components.sources.readers.own.image_places import PackedImages
from components.sources.readers.own.sample import OwnImage, OwnImages, OwnSettings
from components.sources.readers.own.table import TableReader
from components.sources.readers.types import CaptionedImage

ROWS = [
    {"image": "a.jpg", "caption": "A dog, running", "split": "train"},
    {"image": "b/c.png", "caption": 'a "cat"\nin two lines', "split": "validation"},
    {"image": "a.jpg", "caption": "the same dog", "split": "Train"},
    {"image": "http://host/x.jpg", "caption": "NA", "split": "test"},
    {"image": "a.jpg", "caption": "  ", "split": "train"},
]


def write(folder: Path, suffix: str, rows: list[dict[str, object]]) -> Path:
    path = folder / f"captions{suffix}"
    frame = pd.DataFrame(rows)
    if suffix == ".parquet":
        frame.to_parquet(path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    return path


def read(path: Path, tally: Tally | None = None, **settings: str) -> list[OwnImage]:
    tally = tally or Tally()
    images = OwnImages(tally)
    with PackedImages(path.parent / "embedded.tar") as packed:
        TableReader(OwnSettings(**settings), images, packed, tally).read(path, path.parent)  # type: ignore[arg-type]
    return images.listed()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_all_forms_say_the_same(tmp_path: Path, suffix: str) -> None:
    first, second, third = read(write(tmp_path, suffix, ROWS))
    assert (first.key, first.path, first.split) == ("a.jpg", tmp_path / "a.jpg", "train")
    assert first.captions == ["A dog, running", "the same dog"]
    assert (second.path, second.split) == (tmp_path / "b/c.png", "val")
    assert second.captions == ['a "cat"\nin two lines']
    assert (third.url, third.path, third.split, third.captions) == (
        "http://host/x.jpg", None, "test", ["NA"]
    )  # fmt: skip
    number = {".jsonl": "line 2", ".parquet": "row 2"}.get(suffix, "row 3")
    assert second.where == f"{tmp_path}/captions{suffix}: {number}"


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_cell_may_hold_several_captions(tmp_path: Path, suffix: str) -> None:
    rows: list[dict[str, object]] = [{"image": "a.jpg", "caption": ["one", "", "two"]}]
    (image,) = read(write(tmp_path, suffix, rows))
    assert image.captions == ["one", "two"]
    assert image.split is None


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    path.write_text("url,text,ignored\na.jpg,one,1\n")
    (image,) = read(path, image_column="url", caption_column="text")
    assert image.captions == ["one"]
    with pytest.raises(
        InputError, match=r"no column `ignore` \(did you mean `ignored`\?\); it has url, text,"
    ):
        read(path, image_column="url", caption_column="ignore")


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("x.csv", "", "empty; expected a header"),
        ("x.csv", "image,caption\n", "the table has no rows"),
        ("x.csv", "image,caption\na.jpg,one\nb.jpg,two,three\n", "row 3: 3 cells, .*extra cell is 'three'"),
        ("x.csv", "image,text\na.jpg,one\n", r"no column `caption`; it has image, text.*own_data"),
        ("x.csv", "image,caption\na.jpg,one\n ,two\n", "row 3, column `image`: expected an image's path"),
        ("x.csv", "image,caption,split\na.jpg,one,trian\n", "row 2, column `split`: .*, found 'trian'"),
        ("x.csv", "image,caption,split\na,one,train\na,two,val\n", "row 3: .*in val here and in train in"),
        ("x.jsonl", '{"image": "a.jpg", "caption": "one"}\n{"image": \n', "line 2: broken JSON"),
        ("x.jsonl", '["a.jpg", "one"]\n', "line 1: expected an object"),
        ("x.jsonl", '{"image": "a.jpg", "caption": 7}\n', "line 1, column `caption`: expected a text or"),
        ("x.jsonl", '{"image": 7, "caption": "one"}\n', "line 1, column `image`: .*found 7"),
        ("x.jsonl", '{"image": "a.jpg"}\n', "line 1: no column `caption`"),
        ("x.csv", "image,caption\na.jpg,one\nb.jpg\n", r"row 3: 1 cells .*, and the header has 2"),
        ("x.csv", 'image,caption\na.jpg,"one, two\nb.jpg,two\n', "row 2: its quotes are not balanced"),
        ("x.csv", "image,image,caption\na,b,one\n", "2 columns are called `image`; expected one"),
        ("x.json", '[{"image": "a.jpg"}]', "record 1: no column `caption`"),
        ("x.json", '"text"', "expected a list of records"),
        ("x.json", '{"images": [], "annotations": []}', "record 1: a file in COCO layout; name the folder"),
        ("x.json", '{\n"data": [{"image": "a.jpg", "caption": "one"}]\n}', "expected a list of records"),
        ("x.csv", "image;caption\na.jpg;one\n", "its header is one cell, 'image;caption', as if ';' parted"),
        ("x.tsv", "image,caption\na.jpg,one\n", "its header is one cell, 'image,caption', as if ',' parted"),
        ("x.jsonl", "[" * 100000, "line 1: broken JSON"),
        ("x.csv.gz", "image,caption\n", "damaged"),
        ("x.csv.bz2", "image,caption\n", "damaged"),
        ("x.csv.xz", "image,caption\n", "damaged"),
        ("x.parquet", "not one", "not a parquet table"),
    ],
)  # fmt: skip
def test_faults_name_the_file_the_row_and_the_column(
    tmp_path: Path, name: str, text: str, fault: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=f"(?s)^{tmp_path}/{name}.*{fault}"):
        read(tmp_path / name)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize(
    ("written", "captions"),
    [
        (['"hello', "two", 'end" he said'], ['"hello', "two", 'end" he said']),
        (['"bird', 'ball"'], ['"bird', 'ball"']),
        (['a 5" disk', '"hm'], ['a 5" disk', '"hm']),
        (['"quoted" and more', "two"], ['"quoted" and more', "two"]),
        (['"quoted"', '"a ""b"" c"'], ["quoted", 'a "b" c']),
        (['"one\nin the park\n\nat night"', "two"], ["one\nin the park\n\nat night", "two"]),
    ],
)  # fmt: skip
def test_quotes_swallow_no_row(tmp_path: Path, suffix: str, written: list[str], captions: list[str]) -> None:
    separator = "\t" if suffix == ".tsv" else ","
    rows = [f"{number}.jpg{separator}{caption}\n" for number, caption in enumerate(written)]
    for ends in ("\n", "\r\n"):
        text = "".join([f"image{separator}caption\n", *rows]).replace("\n", ends)
        (tmp_path / f"x{suffix}").write_bytes(text.encode())
        images = read(tmp_path / f"x{suffix}")
        assert [image.captions for image in images] == [[caption] for caption in captions]
        assert [image.key for image in images] == [f"{number}.jpg" for number in range(len(written))]


@pytest.mark.parametrize("header", ["image,caption", "image,caption,", "\ufeffimage, caption ,"])
def test_blank_cells_at_the_end_shift_nothing(tmp_path: Path, header: str) -> None:
    (tmp_path / "x.csv").write_text(f"{header}\na.jpg,one,\nb.jpg,two\n\nc.jpg,three, \n", encoding="utf-8")
    tally = Tally()
    images = read(tmp_path / "x.csv", tally)
    assert [(image.key, image.captions) for image in images] == [
        ("a.jpg", ["one"]), ("b.jpg", ["two"]), ("c.jpg", ["three"])
    ]  # fmt: skip
    assert images[2].where.endswith("row 5")
    assert "noted 2 rows with a blank cell too many at the end (such as" in tally.line("x", "")


@pytest.mark.parametrize(
    "header", ["image,caption,caption", "image,caption,caption.1", "image,caption_1,caption_2"]
)
def test_every_caption_column_is_read_and_the_others_are_told_of(tmp_path: Path, header: str) -> None:
    (tmp_path / "x.csv").write_text(f"{header},author\na.jpg,one,two,me\nb.jpg,,three,me\n")
    tally = Tally()
    assert [image.captions for image in read(tmp_path / "x.csv", tally)] == [["one", "two"], ["three"]]
    assert tally.line("x", "2") == (
        f"x: took 2; left out 1 blank captions (such as {tmp_path}/x.csv: row 3); "
        "noted 1 columns that are not read (such as `author`)"
    )


def test_a_key_twice_in_a_record_is_two_captions(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"image": "a.jpg", "caption": "one", "caption": "two"}\n')
    assert read(tmp_path / "x.jsonl")[0].captions == ["one", "two"]


@pytest.mark.parametrize(("suffix", "opener"), [(".gz", gzip.open), (".bz2", bz2.open), (".xz", lzma.open)])
@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl", "x.json"])
def test_compressed_tables(tmp_path: Path, suffix: str, opener: Callable[..., Any], name: str) -> None:
    texts = {
        "x.csv": "image,caption\na.jpg,one\n", "x.tsv": "image\tcaption\na.jpg\tone\n",
        "x.jsonl": '{"image": "a.jpg", "caption": "one"}\n',
        "x.json": '[{"image": "a.jpg", "caption": "one"}]',
    }  # fmt: skip
    with opener(tmp_path / f"{name}{suffix}", "wt", encoding="utf-8-sig") as file:
        file.write(texts[name])
    (image,) = read(tmp_path / f"{name}{suffix}")
    assert (image.key, image.captions) == ("a.jpg", ["one"])
    whole = (tmp_path / f"{name}{suffix}").read_bytes()
    (tmp_path / f"{name}{suffix}").write_bytes(whole[:-5])
    with pytest.raises(InputError, match="damaged"):
        read(tmp_path / f"{name}{suffix}")


def test_one_file_is_one_image_whatever_its_names(tmp_path: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD"))
    (tmp_path / "sub").mkdir()
    for name in ("a.jpg", f"sub/{nfd}", "c.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    (tmp_path / "hard.jpg").hardlink_to(tmp_path / "a.jpg")
    names = [
        "link.jpg", "a.jpg", "./a.jpg", "sub/../a.jpg", f"{tmp_path}/a.jpg", "hard.jpg", " a.jpg ",
        f"sub/{nfc}", f"sub/{nfd}", f"sub\\{nfc}", "c.jpg",
    ]  # fmt: skip
    rows = [{"image": name, "caption": str(number)} for number, name in enumerate(names)]
    for some in (rows, rows[::-1]):
        (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
        images = sorted(read(tmp_path / "x.jsonl"), key=lambda image: image.key)
        assert [image.key for image in images] == ["a.jpg", "c.jpg", f"sub/{nfd}"]
        assert [len(image.captions) for image in images] == [7, 1, 3]
        assert [image.fault for image in images] == [None, None, None]
    rows = [
        {"image": "a.jpg", "caption": "x", "split": "train"},
        {"image": "link.jpg", "caption": "y", "split": "val"},
    ]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        InputError, match=r"line 2: 'link.jpg' is in val here and in train in .*line 1, as 'a.jpg'"
    ):
        read(tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    ("image", "fault"),
    [
        ("gone.jpg", "no such image: .*gone.jpg"),
        ("x" * 300, "no such image: .*xxx"),
        ("é" * 300 + ".jpg", "no such image"),
        ("a\0b.jpg", "no such image"),
        (".", "no such image"),
        ("\ud83d.jpg", r"no such image: .*\\ud83d\.jpg"),
        ("photo.heic", "cannot be decoded here; convert it to JPEG"),
        ("ftp://host/a.jpg", "only http and https are fetched; download it first"),
        ("http://[bad/x.jpg", r"not a URL \(Invalid IPv6 URL\)"),
        ("http:///x.jpg", r"not a URL \(no host\)"),
        ("https://host:99999/x.jpg", r"not a URL \(Port out of range"),
        ("http://a..b/x.jpg", "not a URL"),
        ("data:image/png;base64,????", "a broken data URI"),
        ("data:image/png", "a broken data URI"),
    ],
)
def test_images_that_cannot_be_got_cost_their_rows(tmp_path: Path, image: str, fault: str) -> None:
    (tmp_path / "photo.heic").touch()
    (tmp_path / "x.jsonl").write_text(json.dumps({"image": image, "caption": "one"}))
    (found,) = read(tmp_path / "x.jsonl")
    assert re.search(fault, str(found.fault))
    str(found.fault).encode()


def test_images_inside_tables(tmp_path: Path) -> None:
    pixels = [bytes([number]) * 1000 for number in range(3)]
    uri = "data:image/png;base64," + base64.b64encode(pixels[0] * 400).decode()
    (tmp_path / "x.csv").write_text(f'image,caption\n"{uri}",one\n"{uri}",two\n"data:,abc",three\n')
    first, second = read(tmp_path / "x.csv")
    assert (first.captions, second.captions) == (["one", "two"], ["three"])
    for image, content in ((first, pixels[0] * 400), (second, b"abc")):
        assert image.path is not None
        assert CaptionedImage("", "", image.path, (), member=image.member).read_bytes() == content
    (tmp_path / "on_disk.jpg").touch()
    struct = [
        {"bytes": pixels[1], "path": "0.jpg"}, {"bytes": pixels[2], "path": None},
        {"bytes": None, "path": "on_disk.jpg"},
    ]  # fmt: skip
    for images in (struct, [*pixels[1:], b"third"]):
        table = pyarrow.table({"image": images, "caption": ["one", "two", "three"], "size": [1, 2, 3]})
        pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
        found = read(tmp_path / "x.parquet")
        assert [image.captions for image in found] == [["one"], ["two"], ["three"]]
        for image, content in zip(found, pixels[1:], strict=False):
            assert image.path is not None
            assert CaptionedImage("", "", image.path, (), member=image.member).read_bytes() == content


def test_captions_that_texts_cannot_hold_and_long_ones_are_noted(tmp_path: Path) -> None:
    rows = [
        {"image": "a.jpg", "caption": "a \ud83d dog \U0001f436"},
        {"image": "b.jpg", "caption": "é" * 2097},
    ]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tally = Tally()
    first, second = read(tmp_path / "x.jsonl", tally)
    assert (first.captions, second.captions) == (["a  dog \U0001f436"], ["é" * 2097])
    line = tally.line("x", "2")
    assert "1 captions of which half a character is taken away" in line
    assert f"1 captions of more than 4,192 bytes (such as {tmp_path}/x.jsonl: line 2)" in line


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("image,caption\na.jpg,blå\n".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_bytes("\ufeffimage,caption\na.jpg,blå\n".encode())
    assert read(tmp_path / "x.csv")[0].captions == ["blå"]
