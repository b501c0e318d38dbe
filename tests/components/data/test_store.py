import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lmdb
import pytest

from components.core.errors import InputError
from components.data import record
from components.data.build import build_store
from components.data.record import Metadata, StoreForm
from components.data.store import CaptionStore

METADATA = Metadata(count=1, captions=1, image_bytes=1, skipped=0, short_side=None, jpeg_quality=95)


def write_lmdb(path: Path, values: dict[bytes, bytes]) -> None:
    with (
        lmdb.open(str(path), subdir=False, lock=False) as environment,
        environment.begin(write=True) as write,
    ):
        for key, value in values.items():
            write.put(key, value)


def test_records_come_in_order(store: CaptionStore) -> None:
    assert len(store) == 10
    records = list(store)
    assert [one.image_id for one in records] == [f"world/{index}" for index in range(10)]
    assert records[3] == store.get(3)
    assert store.get(3).captions == ("picture 3 on the left", "A second caption of 3")
    assert store.metadata.captions == 20
    assert store.metadata.categories == ("even", "triple")
    assert store.get(6).labels == (1, 2)
    assert store.index.labels == tuple(one.labels for one in records)
    assert store.index.num_captions == (2,) * 10


@pytest.mark.parametrize("index", [-1, 10])
def test_no_record_outside(store: CaptionStore, index: int) -> None:
    with pytest.raises(IndexError, match="only 0 to 9"):
        store.get(index)


def test_two_stores_of_one_file(store: CaptionStore) -> None:
    other = CaptionStore(store.path)
    assert other.get(1) == store.get(1)
    del other
    assert store.get(2).image_id == "world/2"


def test_an_open_store_survives_fork(store: CaptionStore) -> None:
    expected = store.get(4)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(store.get, range(10))[4] == expected
    child = os.fork()
    if child == 0:  # uses the inherited object itself, not a pickled one
        os._exit(0 if store.get(4) == expected and CaptionStore(store.path).get(4) == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.get(4) == expected


def test_an_open_store_survives_spawn_and_pickling(store: CaptionStore) -> None:
    expected = store.get(4)
    assert pickle.loads(pickle.dumps(store)).get(4) == expected
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(store.get, (4,)) == expected


def test_threads_share_a_store(store: CaptionStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda index: CaptionStore(store.path).get(index % 10).file, range(200)))
    assert names == [f"{index % 10:03}.jpg" for index in range(200)]


def test_a_new_file_of_the_same_name_is_seen(store: CaptionStore, make_images) -> None:
    assert len(store) == 10
    build_store(store.path, make_images(2), StoreForm(), num_workers=1)
    assert len(CaptionStore(store.path)) == 2
    assert len(store) == 10


def test_a_missing_file_is_noticed_at_first_use(tmp_path: Path) -> None:
    store = CaptionStore(tmp_path / "none.lmdb")
    with pytest.raises(InputError, match=r"none\.lmdb.*run the lmdb stage"):
        len(store)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(store: CaptionStore, share: float) -> None:
    data = store.path.read_bytes()
    store.path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match="not a usable store"):
        store.get(0)
    with pytest.raises(InputError, match="not a usable store") as error:
        _ = store.index
    assert str(error.value).count("not a usable store") == 1


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.lmdb"
    path.write_text("captions\n" * 4000)
    with pytest.raises(InputError, match="not a usable store"):
        len(CaptionStore(path))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({b"key": b"value"}, "unfinished"),
        ({record.META_KEY: b'{"format": "virtex-lmdb", "version": 99}'}, "found 99"),
        (
            {record.INDEX_KEY: b"", record.META_KEY: record.pack_metadata(METADATA)},
            "0 records where its metadata says 1",
        ),
    ],
)
def test_a_foreign_store_is_refused(tmp_path: Path, values: dict[bytes, bytes], message: str) -> None:
    write_lmdb(tmp_path / "other.lmdb", values)
    with pytest.raises(InputError, match=message):
        len(CaptionStore(tmp_path / "other.lmdb"))


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "damaged.lmdb"
    damaged = {record.key_of(0): b"\xc1", record.INDEX_KEY: b"\xc1"}
    write_lmdb(path, damaged | {record.META_KEY: record.pack_metadata(METADATA)})
    with pytest.raises(InputError, match="record 0"):
        CaptionStore(path).get(0)
    with pytest.raises(InputError, match=r"damaged\.lmdb: not a usable store: its index is damaged"):
        _ = CaptionStore(path).index
