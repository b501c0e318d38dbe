import os
from pathlib import Path

import pytest

from components.core.errors import InputError
from components.sources import contents
from components.sources.contents import content_digests, listing_sha256

OLD = 1_600_000_000


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read; whatever changed counts as settled at once."""
    names: list[str] = []
    original = contents._sha256

    def counted(name: bytes) -> str:
        names.append(os.fsdecode(name).rpartition("/")[2])
        return original(name)

    monkeypatch.setattr(contents, "_sha256", counted)
    monkeypatch.setattr(contents, "_SETTLED_SECONDS", -1e9)
    return names


def test_only_touched_files_are_read_again(here: Path, read: list[str]) -> None:
    files = [here / name for name in ("a.jpg", "b.jpg")]
    for path in files:
        path.write_bytes(path.name.encode())
    first = content_digests(files)
    assert content_digests([*files, files[0]]) == [*first, first[0]]
    assert sorted(read) == ["a.jpg", "b.jpg"]
    os.utime(files[1])
    assert content_digests(files) == first
    assert sorted(read) == ["a.jpg", "b.jpg", "b.jpg"]


def test_a_replacement_of_equal_size_and_time_is_noticed(here: Path, read: list[str]) -> None:
    path = here / "a.jpg"
    path.write_bytes(b"one")
    os.utime(path, (OLD, OLD))
    before = listing_sha256(here, [path])
    path.write_bytes(b"two")  # the same inode, size and, then, time
    os.utime(path, (OLD, OLD))
    assert listing_sha256(here, [path]) != before
    path.write_bytes(b"one")
    assert listing_sha256(here, [path]) == before


def test_what_has_just_changed_is_not_remembered(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = here / "a.jpg"
    path.write_bytes(b"one")
    content_digests([path])
    monkeypatch.setattr(contents, "stamp", lambda status: "the clock stands still")
    before = content_digests([path])
    path.write_bytes(b"two")
    assert content_digests([path]) != before


def test_names_that_are_no_text_and_a_memory_that_is_damaged(here: Path) -> None:
    path = here / os.fsdecode(b"caf\xe9.jpg")
    path.write_bytes(b"one")
    good = listing_sha256(here, [path])
    contents.MEMORY.write_bytes(b"no database" * 100)
    assert listing_sha256(here, [path]) == good
    with pytest.raises(InputError, match=r"gone\.jpg: cannot be read"):
        content_digests([here / "gone.jpg"])
