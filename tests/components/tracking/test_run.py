"""A stage's run, against a real SQLite store in a temporary folder."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hostile_texts import HALF, TEXTS

from components.core.foreign_text import printable
from components.params import Tokenize
from components.tracking import stage_run
from components.tracking.metrics import mlflow_names
from components.tracking.store import open_store

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "VIRTEX_PARENT_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def dead_server(monkeypatch):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and never listening, so that connections are refused
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{taken.getsockname()[1]}")
        yield


def run_file(folder):
    return json.loads((folder / "mlflow_run.json").read_text())


def test_records_everything(workspace):
    parent = open_store()
    parent_id = parent.client.create_run(parent.experiment_id).info.run_id
    os.environ["VIRTEX_PARENT_RUN_ID"] = parent_id
    try:
        with stage_run(
            "lmdb", "train", {"tokenize": Tokenize(vocab_size=200), "lmdb": {"a": {"b": None}}}
        ) as run:
            for step in range(2500):
                run.log({"loss": 5.0 - step / 1000, "odd@name": 1.0}, step)
            run.metrics({"images": 12, "text": "x", "ok": True, "nested": {"mean": 1.5}})
            run.tag("note", "a")
            run.text("hello", "notes/hello.txt")
            run.artifact(run.output_dir / "metrics.json")
    finally:
        del os.environ["VIRTEX_PARENT_RUN_ID"]

    assert run.output_dir == Path("outputs/lmdb/train")
    assert json.loads((run.output_dir / "metrics.json").read_text())["nested"] == {"mean": 1.5}
    assert run_file(run.output_dir) == {"run_id": run.run_id}

    stored = parent.client.get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    assert stored.info.run_name == "lmdb/train"
    assert stored.data.params == {"tokenize.vocab_size": "200", "lmdb.a.b": "None"}
    assert stored.data.tags["mlflow.parentRunId"] == parent_id
    assert stored.data.tags["dvc.stage"] == "lmdb@train"
    assert {"item", "note", "version.mlflow", "virtex.host"} <= stored.data.tags.keys()
    assert stored.data.metrics["images"] == 12
    assert stored.data.metrics["nested.mean"] == 1.5
    assert "text" not in stored.data.metrics
    assert "ok" not in stored.data.metrics
    assert "odd/name" in stored.data.metrics
    assert "system/cpu_utilization_percentage" in stored.data.metrics
    history = parent.client.get_metric_history(run.run_id, "loss")
    assert sorted(metric.step for metric in history) == list(range(2500))
    names = {f.path for f in parent.client.list_artifacts(run.run_id)}
    assert names == {"metrics.json", "notes"}
    assert (workspace / "mlartifacts").is_dir()


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("no"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(2), "FAILED")],
)
def test_status_of_a_broken_stage(workspace, error, status):
    with pytest.raises(type(error)), stage_run("tokenize", None, {}) as run:
        raise error
    assert open_store().client.get_run(run.run_id).info.status == status


def test_a_run_that_cannot_note_its_id_is_ended(workspace, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space")

    monkeypatch.setattr("components.core.files.write_json", full)
    with pytest.raises(OSError, match="No space"), stage_run("tokenize", None, {}):
        pass
    store = open_store()
    assert [run.info.status for run in store.client.search_runs([store.experiment_id])] == ["FAILED"]


def test_a_server_that_is_away_for_days_is_still_asked(workspace, monkeypatch):
    from mlflow import MlflowClient

    from components.tracking import metrics

    monkeypatch.setattr(metrics, "_FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(metrics, "_LONGEST_PAUSE_SECONDS", 0.01)
    send, answers = MlflowClient.log_batch, threading.Event()
    asked = []

    def away(self, run_id, **given):
        if given.get("metrics") and not answers.is_set():
            asked.append(True)
            raise ConnectionError("gone")
        return send(self, run_id, **given)

    with stage_run("pretrain", None, {}) as run:
        monkeypatch.setattr(MlflowClient, "log_batch", away)
        run._sender._failures = 5000
        run.log({"loss": 2.0}, 7)
        limit = time.monotonic() + 20
        while len(asked) < 3 and time.monotonic() < limit:
            time.sleep(0.01)
        answers.set()
    assert len(asked) >= 3
    assert open_store().client.get_metric_history(run.run_id, "loss")[0].value == 2.0


def test_texts_of_strangers_are_kept_as_they_are_shown(workspace):
    texts = {f"text{number}": text for number, text in enumerate([*TEXTS, HALF])}
    with stage_run("tokenize", None, {"tokenize": texts}) as run:
        run.log(dict.fromkeys(TEXTS, 1.0), 1)
        for name, text in texts.items():
            run.tag(name, text)
        run.text(HALF, "notes.txt")
    store = open_store()
    (found,) = store.client.search_runs([store.experiment_id])
    assert found.info.status == "FINISHED"
    for name, text in texts.items():
        shown = printable(text, kept="\n\t")
        assert (found.data.params[f"tokenize.{name}"], found.data.tags[name]) == (shown, shown)
    assert set(mlflow_names(TEXTS).values()) <= set(found.data.metrics)
    assert [file.path for file in store.client.list_artifacts(found.info.run_id)] == ["notes.txt"]


def test_figures_that_are_not_finite_are_refused(workspace):
    with stage_run("voc07", None, {}) as run, pytest.raises(ValueError, match="JSON"):
        run.metrics({"map": float("nan")})
    assert not (run.output_dir / "metrics.json").exists()


def test_server_away_at_the_start(workspace, dead_server, caplog):
    with stage_run("pretrain", None, {"pretrain": {"seed": 0}}) as run:
        run.log({"loss": 1.0}, 1)
        run.tag("a", 1)
        run.text("a", "a.txt")
        run.artifact(Path("nowhere"))
        run.metrics({"loss": 1.0})
    assert run.run_id is None
    assert json.loads((run.output_dir / "metrics.json").read_text()) == {"loss": 1.0}
    assert run_file(run.output_dir)["run_id"] is None
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "out of reach" in warnings[0].message
    assert "outputs/pretrain" in warnings[0].message


def test_server_breaks_midway_and_comes_back(workspace, monkeypatch, caplog):
    from mlflow import MlflowClient

    monkeypatch.setattr("components.tracking.metrics._FLUSH_SECONDS", 0.05)
    send, failed = MlflowClient.log_batch, threading.Event()

    def break_once(self, run_id, **given):
        if given.get("metrics") and not failed.is_set():
            failed.set()
            raise ConnectionError("gone")
        return send(self, run_id, **given)

    with stage_run("pretrain", None, {}) as run:
        monkeypatch.setattr(MlflowClient, "log_batch", break_once)
        run.log({"loss": 2.0}, 7)
        assert failed.wait(20)
        run.log({"loss": 1.0}, 8)
    history = open_store().client.get_metric_history(run.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(7, 2.0), (8, 1.0)]
    assert sum("cannot be sent" in record.message for record in caplog.records) == 1


def test_server_breaks_for_good(workspace, monkeypatch, caplog):
    from mlflow import MlflowClient

    def broken(*_, **__):
        raise ConnectionError("gone")

    with stage_run("pretrain", None, {}) as run:
        monkeypatch.setattr(MlflowClient, "log_batch", broken)
        monkeypatch.setattr(MlflowClient, "set_tag", broken)
        run.tag("a", 1)
        run.tag("b", 2)
        run.log({"loss": 2.0}, 7)
    messages = [record.message for record in caplog.records]
    assert sum("did not take" in message for message in messages) == 1
    assert any("never sent" in message and "outputs/pretrain" in message for message in messages)


def test_next_start_closes_the_run_of_a_killed_stage(workspace):
    script = (
        "import os, signal\nfrom components.tracking import stage_run\n"
        "with stage_run('pretrain', None, {}) as run:\n"
        "    print(run.run_id, flush=True)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    killed = done.stdout.strip()
    client = open_store().client
    assert client.get_run(killed).info.status == "RUNNING"
    with stage_run("tokenize", None, {}), stage_run("pretrain", None, {}) as alive:
        assert client.get_run(killed).info.status == "KILLED"
        with stage_run("pretrain", None, {}):
            assert client.get_run(alive.run_id).info.status == "RUNNING"


def test_processes_that_create_the_database_together(workspace):
    script = (
        "from components.tracking import stage_run\nwith stage_run('lmdb', None, {}) as r: print(r.run_id)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    children = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ids = {child.communicate()[0].strip() for child in children}
    assert len(ids - {"None", ""}) == 3


def test_credentials_stay_out_of_files():
    from components.tracking.store import public_uri

    assert public_uri("https://user:secret@example.org") is None
    assert public_uri("https://example.org/?token=1") is None
    assert public_uri("https://example.org:5000") == "https://example.org:5000"


def test_import_is_cheap():
    script = "import sys, components.tracking; print('mlflow' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]
