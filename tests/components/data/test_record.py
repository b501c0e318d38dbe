import json
from dataclasses import replace

import msgpack
import pytest

from components.data import record
from components.data.record import Metadata, Record, StoreIndex

RECORD = Record("coco/9", "coco", "000000000009.jpg", b"\xff\xd8\xff", ("A café.", "Two"), (3, 80))
METADATA = Metadata(
    count=3, captions=15, image_bytes=900, skipped=1, short_side=None, jpeg_quality=95, categories=("dog",)
)


def test_a_record_comes_back_as_it_went() -> None:
    assert record.unpack_record(record.pack_record(RECORD)) == RECORD


def test_any_messagepack_reader_sees_the_documented_map() -> None:
    assert msgpack.unpackb(record.pack_record(RECORD)) == {
        "v": 2,
        "image_id": "coco/9",
        "dataset": "coco",
        "file": "000000000009.jpg",
        "image": b"\xff\xd8\xff",
        "captions": ["A café.", "Two"],
        "labels": [3, 80],
    }


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65535, 65536, 70000])
def test_the_bytes_are_a_packer_s_own(size: int) -> None:
    large = replace(RECORD, image=bytes(size))
    packed = record.pack_record(large)
    assert packed == msgpack.packb(msgpack.unpackb(packed))
    assert record.unpack_record(packed) == large


def test_keys_sort_as_indices_and_before_the_metadata() -> None:
    keys = [record.key_of(index) for index in (0, 1, 255, 256, 65536, 2**40)]
    assert keys == sorted(keys)
    assert all(len(key) == 8 for key in keys)
    assert keys[-1] < record.INDEX_KEY < record.META_KEY


def test_an_index_comes_back_as_it_went() -> None:
    index = record.unpack_index(record.pack_index([5, 1], [(1, 7), ()]))
    assert index == StoreIndex((5, 1), ((1, 7), ()))


@pytest.mark.parametrize("value", [b"", b"\x01", msgpack.packb({"captions": [1]})])
def test_a_damaged_index_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="index is damaged"):
        record.unpack_index(value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v": 1}, "version 2, found 1"),
        ({"captions": []}, "captions"),
        ({"image": "text"}, "image"),
        ({"file": None}, "text"),
        ({"captions": [1]}, "text"),
        ({"labels": None}, "labels"),
        ({"labels": ["dog"]}, "labels"),
    ],
)
def test_a_wrong_field_is_refused(change: dict[str, object], message: str) -> None:
    fields = msgpack.unpackb(record.pack_record(RECORD)) | change
    with pytest.raises(ValueError, match=message):
        record.unpack_record(msgpack.packb(fields))


@pytest.mark.parametrize("value", [b"", b"\xc1", b"\x01", record.pack_record(RECORD)[:-4]])
def test_bytes_that_are_no_record_are_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"expected a record|MessagePack"):
        record.unpack_record(value)


def test_metadata_is_plain_json() -> None:
    packed = record.pack_metadata(METADATA)
    assert json.loads(packed)["format"] == "virtex-lmdb"
    assert record.unpack_metadata(packed) == METADATA


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": "other"}, "virtex-lmdb"), ({"version": 7}, "found 7"), ({"count": "3"}, "count")],
)
def test_foreign_metadata_is_refused(change: dict[str, object], message: str) -> None:
    fields = json.loads(record.pack_metadata(METADATA)) | change
    with pytest.raises(ValueError, match=message):
        record.unpack_metadata(json.dumps(fields).encode())
