"""MLflow's database file: whole or absent, whenever its maker is killed."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking._tracking_service import utils as service

from components.core.errors import InputError
from components.tracking.database import database_fault
from components.tracking.store import open_store

REPOSITORY = Path(__file__).resolve().parents[3]
# Kills itself at a statement of the creation, counted from 0; "aside" is our way, "in place" is MLflow's own.
KILLED = """
import os, signal, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine
left = int(sys.argv[2])
@event.listens_for(Engine, "before_cursor_execute")
def count(*_):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
if sys.argv[1] == "aside":
    from components.tracking.store import open_store
    open_store()
else:
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine
    _initialize_tables(create_sqlalchemy_engine("sqlite:///mlflow.db"))
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "VIRTEX_PARENT_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    # MLflow keeps the store of "sqlite:///mlflow.db" open, and with it the file of a folder that is gone.
    service._tracking_store_registry._get_store_with_resolved_uri.cache_clear()
    SqlAlchemyStore._engine_map.clear()


def killed_at(statement: int, way: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", KILLED, way, str(statement)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def is_usable() -> bool:
    store = open_store()
    run_id = store.client.create_run(store.experiment_id).info.run_id
    return store.client.get_run(run_id).info.status == "RUNNING"


@pytest.mark.integration
@pytest.mark.parametrize("statement", [0, 40, 120, 260])
def test_a_maker_that_is_killed_leaves_no_file(workspace: Path, statement: int) -> None:
    killed_at(statement, "aside")
    assert not Path("mlflow.db").exists()
    assert is_usable()
    assert {path.name for path in workspace.iterdir()} == {"mlflow.db", "mlflow.db.lock"}


@pytest.mark.integration
@pytest.mark.parametrize("statement", [3, 40, 120, 161, 260])
def test_a_half_made_one_is_recognised_and_made_anew(
    workspace: Path, statement: int, capsys: pytest.CaptureFixture[str]
) -> None:
    killed_at(statement, "in place")
    assert database_fault(Path("mlflow.db")) is not None
    assert is_usable()
    assert "held nothing; it was created again" in capsys.readouterr().err
    assert database_fault(Path("mlflow.db")) is None


def test_a_full_disk_leaves_no_file(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.store.db import utils

    make = utils._upgrade_db

    def full(engine: object) -> None:
        make(engine)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(utils, "_upgrade_db", full)
    with pytest.raises(OSError, match="No space"):
        open_store()
    assert [path.name for path in workspace.iterdir()] == ["mlflow.db.lock"]
    monkeypatch.undo()
    monkeypatch.chdir(workspace)
    assert is_usable()


def test_what_holds_runs_is_never_replaced(workspace: Path) -> None:
    assert is_usable()
    with sqlite3.connect("mlflow.db") as connection:  # as an upgrade that was interrupted leaves it
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        connection.execute("DROP TABLE jobs")
    script = "from components.tracking.store import open_store\nopen_store()"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert "components.core.errors.InputError: " in done.stderr
    assert "MLflow cannot bring it to the format of its version (" in done.stderr
    assert "move it and mlartifacts aside" in done.stderr
    with sqlite3.connect("mlflow.db") as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (1,)


def test_what_is_no_database_says_what_to_do(workspace: Path) -> None:
    Path("mlflow.db").write_bytes(b"\x00\x01 not SQLite" * 1000)
    with pytest.raises(InputError, match="is not a complete SQLite database"):
        open_store()
    assert Path("mlflow.db").stat().st_size == 13000


def test_an_empty_file_is_made_anew(workspace: Path) -> None:
    Path("mlflow.db").touch()
    assert is_usable()
