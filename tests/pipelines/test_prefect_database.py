"""Prefect's database is whole or absent, whenever its making is interrupted."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from importlib.metadata import version

import pytest

from pipelines import prefect_database
from pipelines.prefect_database import PrefectFailed, ensure_database

pytestmark = pytest.mark.integration


@pytest.fixture
def finished(prefect_database):
    return prefect_database


def execute(database, command):
    with closing(sqlite3.connect(database)) as connection, connection:
        return connection.execute(command).fetchall()


def test_one_that_is_finished_is_left_alone(finished, monkeypatch):
    assert [p.name for p in finished.parent.iterdir() if "partial" in p.name] == []
    monkeypatch.setattr(prefect_database, "_replace", lambda *_, **__: pytest.fail("made again"))
    ensure_database(finished)


def test_a_killed_creation_leaves_none_and_the_next_makes_it(tmp_path):
    database = tmp_path / "prefect.db"
    program = "import sys, pathlib; from pipelines.prefect_database import ensure_database as e; "
    program += "e(pathlib.Path(sys.argv[1]))"
    process = subprocess.Popen([sys.executable, "-c", program, str(database)], start_new_session=True)
    limit = time.monotonic() + 120
    while not any(path.stat().st_size for path in tmp_path.glob(".prefect.db.*.partial")):
        assert time.monotonic() < limit
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not database.exists()
    ensure_database(database)
    assert execute(database, "SELECT count(*) FROM flow_run") == [(0,)]
    assert list(tmp_path.glob(".prefect.db*")) == []


def test_a_half_made_one_is_put_aside(finished, tmp_path, capsys):
    database = tmp_path / "prefect.db"
    database.write_bytes(finished.read_bytes())
    execute(database, "DELETE FROM alembic_version")
    ensure_database(database)
    assert "is incomplete and was moved aside to prefect.db.unfinished" in capsys.readouterr().out
    assert len(execute(database, "SELECT * FROM alembic_version")) == 1
    assert (tmp_path / "prefect.db.unfinished").exists()


def test_one_of_another_version_keeps_what_it_holds(finished, tmp_path):
    database = tmp_path / "prefect.db"
    database.write_bytes(finished.read_bytes())
    execute(database, "CREATE TABLE mine (value INTEGER)")
    ensure_database(database)
    assert execute(database, "SELECT count(*) FROM mine") == [(0,)]
    assert not (tmp_path / "prefect.db.unfinished").exists()


@pytest.mark.parametrize("damage", ["emptied in the middle", "cut in half", "no database"])
def test_a_finished_one_that_was_damaged_is_put_aside(finished, tmp_path, monkeypatch, capsys, damage):
    database = tmp_path / "prefect.db"
    content = finished.read_bytes()
    middle = content[: 3 * 4096] + bytes(60 * 4096) + content[63 * 4096 :]
    halves = {"emptied in the middle": middle, "cut in half": content[: len(content) // 2]}
    database.write_bytes(halves.get(damage, b"x" * 100_000))
    (tmp_path / "prefect.db.version").write_text(version("prefect"))
    monkeypatch.setattr(prefect_database, "_replace", lambda path, like: path.write_bytes(content))
    ensure_database(database)
    assert "is incomplete and was moved aside to prefect.db.unfinished" in capsys.readouterr().out
    assert database.read_bytes() == content


def test_a_full_disk_loses_nothing(finished, tmp_path, monkeypatch):
    database = tmp_path / "prefect.db"
    database.write_bytes(finished.read_bytes())

    def full(*_, **__):
        raise PrefectFailed("database or disk is full")

    monkeypatch.setattr(prefect_database, "_replace", full)
    with pytest.raises(PrefectFailed):
        ensure_database(database)
    assert database.read_bytes() == finished.read_bytes()
