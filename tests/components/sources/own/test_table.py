import json
from pathlib import Path

import pandas as pd
import pytest

from components.errors import InputError
from components.sources.own.sample import OwnImage, OwnSettings
from components.sources.own.table import read_table

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


def read(path: Path, **settings: str) -> list[OwnImage]:
    return read_table(path, OwnSettings(**settings))  # type: ignore[arg-type]


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
        ("x.csv", "image,caption\na.jpg,one\nb.jpg,two,three\n", "line 3, saw 3"),
        ("x.csv", "image,text\na.jpg,one\n", r"no column `caption`; it has image, text.*own_data"),
        ("x.csv", "image,caption\na.jpg,one\n ,two\n", "row 3, column `image`: expected an image's path"),
        ("x.csv", "image,caption\nftp://host/a.jpg,one\n", "row 2: .*only http and https"),
        ("x.csv", "image,caption,split\na.jpg,one,trian\n", "row 2, column `split`: .*, found 'trian'"),
        ("x.csv", "image,caption,split\na,one,train\na,two,val\n", "row 3, .*in val here and in train in"),
        ("x.jsonl", '{"image": "a.jpg", "caption": "one"}\n{"image": \n', "line 2: broken JSON"),
        ("x.jsonl", '["a.jpg", "one"]\n', "line 1: expected an object"),
        ("x.jsonl", '{"image": "a.jpg", "caption": 7}\n', "line 1, column `caption`: expected a text or"),
        ("x.jsonl", '{"image": 7, "caption": "one"}\n', "line 1, column `image`: .*found 7"),
        ("x.jsonl", '{"image": "a.jpg"}\n', "line 1: no column `caption`"),
        ("x.parquet", "not one", "not a parquet table"),
    ],
)  # fmt: skip
def test_faults_name_the_file_the_row_and_the_column(
    tmp_path: Path, name: str, text: str, fault: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=f"(?s)^{tmp_path}/{name}.*{fault}"):
        read(tmp_path / name)


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("image,caption\na.jpg,blå\n".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_bytes("\ufeffimage,caption\na.jpg,blå\n".encode())
    assert read(tmp_path / "x.csv")[0].captions == ["blå"]
