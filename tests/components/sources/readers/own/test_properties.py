"""Whatever is written in legal form is read back; whatever bytes come in are rows, or one InputError."""

import contextlib
import csv
import gzip
import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import both_sizes

from components.core.errors import InputError
from components.sources.layout import Tally
from components.sources.readers.own.dataset import read_own
from components.sources.readers.own.image_places import PackedImages
from components.sources.readers.own.sample import OwnImages, OwnSettings
from components.sources.readers.own.table import TableReader

ODD = st.sampled_from("\",;\t\n\\'`|=<&\u0085\u2028\ufeff\x00\x1b\u202e😀é")
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r") | ODD, min_size=1)
CAPTIONS = st.lists(TEXTS.filter(str.strip), min_size=1, max_size=6)
SETTINGS = OwnSettings(val_fraction=0.5)


def table(captions: list[str], kind: str) -> bytes:
    """Captions as the libraries write them that people use."""
    rows = [{"image": f"{number}.jpg", "caption": caption} for number, caption in enumerate(captions)]
    if kind in (".csv", ".tsv", ".csv.gz"):
        text = io.StringIO(newline="")
        separator = "\t" if kind == ".tsv" else ","
        writer = csv.DictWriter(text, ["image", "caption"], delimiter=separator, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
        written = text.getvalue().encode()
        return gzip.compress(written) if kind.endswith("gz") else written
    if kind == ".jsonl":
        return "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    if kind == ".json":
        return json.dumps(rows, ensure_ascii=False, indent=1).encode()
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


KINDS = (".csv", ".tsv", ".csv.gz", ".jsonl", ".json", ".parquet")


def read(content: bytes, kind: str) -> dict[str, list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"captions{kind}"
        path.write_bytes(content)
        tally = Tally()
        images = OwnImages(tally)
        with PackedImages(Path(folder) / "embedded.tar") as packed:
            TableReader(SETTINGS, images, packed, tally).read(path, path.parent)
        return {image.key: image.captions for image in images.listed()}


@pytest.mark.parametrize("kind", KINDS)
@both_sizes(40, 2000)
def test_tables_are_read_back(kind: str, profile: settings) -> None:
    @profile
    @given(CAPTIONS)
    def check(captions: list[str]) -> None:
        assert read(table(captions, kind), kind) == {
            f"{number}.jpg": [caption] for number, caption in enumerate(captions)
        }

    check()


PUT = [b'"', b"\n", b",", b"\x00", b"{", b"[[", b"\xff\xfe", b"9" * 5000]


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with bytes cut off, taken out, put in or changed."""
    start = draw(st.integers(0, len(whole)))
    end = draw(st.integers(start, min(start + 40, len(whole))))
    put = draw(st.binary(max_size=20) | st.sampled_from(PUT))
    return whole[:start] + put + (b"" if draw(st.booleans()) else whole[end:])


@pytest.mark.parametrize("kind", KINDS)
@both_sizes(60, 4000)
def test_any_bytes_are_rows_or_one_refusal(kind: str, profile: settings) -> None:
    whole = table(["a dog", 'two "cats"\non a sofa', "é"], kind)

    @profile
    @given(st.binary(max_size=200) | damaged(whole))
    def check(content: bytes) -> None:
        with contextlib.suppress(InputError):
            found = read(content, kind)
            assert all(isinstance(text, str) for texts in found.values() for text in texts)

    check()


def shard(captions: list[str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number, caption in enumerate(captions):
            for name, content in ((f"{number}.jpg", b"image"), (f"{number}.txt", caption.encode())):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def read_folder(files: dict[str, bytes]) -> dict[str, tuple[str, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        root.mkdir()
        for name, content in files.items():
            (root / name).write_bytes(content)
        found = read_own(root, "mine", SETTINGS, Path(folder) / "index", skip_unreadable=False)
        images: list[Any] = [image for split in found.splits.values() for image in split]
        return {image.image_id.split("/")[-1]: image.captions for image in images}


LINE = TEXTS.map(lambda text: " ".join(" ".join(text.split()).splitlines()).replace("\ufeff", "-").strip())
LINES = st.lists(LINE.filter(bool), min_size=2, max_size=5)


@both_sizes(30, 1000)
def test_texts_beside_images_and_in_archives_are_read_back(profile: settings) -> None:
    @profile
    @given(LINES)
    def check(captions: list[str]) -> None:
        expected = {str(number): (caption.strip(),) for number, caption in enumerate(captions)}
        beside = {f"{number}.txt": caption.encode() for number, caption in enumerate(captions)}
        beside |= {f"{number}.jpg": b"image" for number in range(len(captions))}
        assert read_folder(beside) == {f"{key}.jpg": caption for key, caption in expected.items()}
        assert read_folder({"x.tar": shard(captions)}) == expected

    check()


@both_sizes(60, 3000)
def test_any_archive_is_samples_or_one_refusal(profile: settings) -> None:
    @profile
    @given(st.binary(max_size=2000) | damaged(shard(["a dog", "two cats"])))
    def check(content: bytes) -> None:
        with contextlib.suppress(InputError):
            read_folder({"x.tar": content})

    check()
