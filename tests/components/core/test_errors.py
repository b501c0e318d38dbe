"""What the machine refused, in words: a full disk, memory, a place."""

import errno
import json
import os
import sqlite3
from pathlib import Path

import pytest
import torch

from components.core import errors
from components.core.errors import FREES_SPACE, InputError, machine_message
from components.core.files import parse_json, read_json, write_text, writing


def raised_from(cause: Exception, error: Exception) -> Exception:
    try:
        raise error from cause
    except Exception as found:
        return found


def full(name: str | None = None) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)


@pytest.mark.parametrize(
    "error",
    [
        full("big.mdb"),
        OSError(errno.EDQUOT, "quota", "big.mdb"),
        raised_from(full("big.mdb"), RuntimeError("PytorchStreamWriter failed writing file")),
    ],
)
def test_a_full_disk_names_the_file_and_what_frees_space(error: Exception) -> None:
    assert machine_message(error) == f"the disk is full while writing big.mdb; {FREES_SPACE}"


@pytest.mark.parametrize(
    "error",
    [
        full(),
        sqlite3.OperationalError("database or disk is full"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_without_a_name_the_full_one_of_our_disks_is_found(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".dvc" / "cache").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(errors, "_room", lambda place: 100 if "cache" in str(place) else 10**9)
    assert machine_message(error) == f"the disk is full (that of {tmp_path}/.dvc/cache); {FREES_SPACE}"


def test_a_full_disk_while_a_file_is_written_has_the_files_name(tmp_path: Path) -> None:
    def fill() -> None:
        with writing(tmp_path / "metrics.json"):
            raise full()

    with pytest.raises(OSError, match="No space left") as caught:
        fill()
    assert caught.value.filename == str(tmp_path / "metrics.json")


def test_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    for error in (caught.value, MemoryError(), OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))):
        message = machine_message(error)
        assert message is not None
        assert message.startswith("out of memory (")
        assert "batch_size" in message


def test_places(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Is a directory") as caught:
        tmp_path.open()
    assert machine_message(caught.value) == (
        f"{tmp_path}: Is a directory; make it usable, or name another place"
    )


@pytest.mark.parametrize(
    "error", [ValueError("memory"), KeyError("x"), FileNotFoundError(2, "No such file", "x"), OSError("x")]
)
def test_our_own_defects_have_no_such_words(error: Exception) -> None:
    assert machine_message(error) is None


def test_errors_that_cause_each_other_end() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert machine_message(one) is None
    assert machine_message(InputError("x")) is None


def test_json_nested_too_deeply_is_bad_json(tmp_path: Path) -> None:
    with pytest.raises(RecursionError):
        json.loads("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000)
    write_text(tmp_path / "a.json", '{"a": [1]}')
    assert read_json(tmp_path / "a.json") == {"a": [1]}
