import hashlib
import json
import time
from pathlib import Path

import pytest

from components.core import dvc_cache
from components.core.dvc_cache import (
    all_objects,
    damaged_objects,
    object_path,
    repair,
    set_aside,
    with_members,
)


def put(cache: Path, content: bytes, mark: str = "") -> str:
    name = hashlib.md5(content).hexdigest() + mark
    path = object_path(cache, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return name


@pytest.mark.parametrize("content", [b"", b"one more line", b"\0" * 20])
def test_damaged_files_are_found_and_moved(tmp_path: Path, content: bytes) -> None:
    one, two = put(tmp_path, b"twenty bytes of text"), put(tmp_path, b"two")
    folder = put(tmp_path, json.dumps([{"md5": one, "relpath": "a"}]).encode(), ".dir")
    assert all_objects(tmp_path) == sorted([one, two, folder])
    assert with_members(tmp_path, [folder]) == [folder, one]
    assert not list(damaged_objects(tmp_path, [one, two, folder, "0" * 32]))
    object_path(tmp_path, one).write_bytes(content)
    assert list(damaged_objects(tmp_path, with_members(tmp_path, [folder, two]))) == [one]
    assert list(damaged_objects(tmp_path, [one], largest=5)) == ([] if content else [one])
    assert set_aside(tmp_path, one).read_bytes() == content
    assert all_objects(tmp_path) == sorted([two, folder])
    put(tmp_path, b"twenty bytes of text")
    assert set_aside(tmp_path, one).name == f"{one}-1"


def test_a_damaged_list_of_a_folder(tmp_path: Path) -> None:
    folder = put(tmp_path, b"[]", ".dir")
    object_path(tmp_path, folder).write_bytes(b"[")
    assert list(damaged_objects(tmp_path, with_members(tmp_path, [folder]))) == [folder]


def test_what_was_not_touched_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, memory = tmp_path / "cache", tmp_path / "checked"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dvc_cache, "_CLOCK_SECONDS", 0.0)
    one, two, three = (put(cache, text) for text in (b"one", b"two", b"three"))
    assert not list(repair(cache, memory=memory))
    memory.write_text(str(time.time() + 10))  # later than what happens now: as if that had been before
    object_path(cache, one).write_bytes(b"unnoticed")
    object_path(cache, two).write_bytes(b"")
    assert [line[:32] for line in repair(cache, memory=memory)] == [two]
    object_path(cache, three).write_bytes(b"noticed")
    memory.write_text("no time")
    assert {line[:32] for line in repair(cache, 0, memory)} == set(), "none is read"
    assert memory.read_text() == "no time"
    assert {line[:32] for line in repair(cache, memory=memory)} == {one, three}
