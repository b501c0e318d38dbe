"""Workspaces as the command line finds them: one with parameters and a preset, one with stages that run."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

STAGE = """
import shutil, sys, time
from pathlib import Path
from components.tracking import stage_run

name, source = sys.argv[1:]
with stage_run(name, None, {"tokenize": {"vocab_size": 1}}) as run:
    print("hello from", name, flush=True)
    run.log({"loss": 1.0}, 1)
    run.metrics({"figure": 7})
    (run.output_dir / "out.txt").write_text("half-written")
    if Path(f"control/{name}-fails").exists():
        print(f"{name}: error: the input is bad", file=sys.stderr)
        sys.exit(2)
    if Path(f"control/{name}-sleeps").exists():
        Path("control/sleeping").touch()
        time.sleep(600)
    shutil.copy(source, run.output_dir / "out.txt")
"""


@pytest.fixture
def small_workspace(tmp_path, monkeypatch):
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    _add_preset(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _add_preset(root: Path) -> None:
    (root / "presets").mkdir()
    (root / "presets" / "tiny.yaml").write_text("# Smaller.\ntokenize:\n  vocab_size: 123\n")


class Workspace:
    def __init__(self, root: Path, prefect_url: str) -> None:
        self.root = root
        hidden = ("MLFLOW_", "VIRTEX_", "PREFECT_")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        self.environment |= {
            "PYTHONPATH": str(REPOSITORY),
            "PREFECT_API_URL": prefect_url,
            "VIRTEX_MAX_PARALLEL": "2",
            "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """``virtex run`` with these arguments; an empty variable is left out."""
        return self.start_module("pipelines.cli", "run", *arguments, **variables)

    def start_module(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=self.root,
            env={k: v for k, v in (self.environment | variables).items() if v},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **variables: str) -> tuple[int, str]:
        process = self.start(*arguments, **variables)
        output, _ = process.communicate(timeout=280)
        return process.returncode, output

    def start_and_wait_for_sleep(self, **variables: str) -> subprocess.Popen[str]:
        self.sleep("last")
        process = self.start(**variables)
        self.wait_for_sleep(process)
        return process

    def sleep(self, stage: str) -> None:
        """Let this stage sleep, with its output half-written, whenever it runs; see ``wake_up``."""
        (self.root / "control" / "sleeping").unlink(missing_ok=True)
        (self.root / "control" / f"{stage}-sleeps").touch()

    def wake_up(self, stage: str) -> None:
        (self.root / "control" / f"{stage}-sleeps").unlink()

    def wait_for_sleep(self, process: subprocess.Popen[str]) -> None:
        limit = time.monotonic() + 240
        while not (self.root / "control" / "sleeping").exists():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < limit
            time.sleep(0.1)

    def text(self, path: str) -> str:
        return (self.root / path).read_text()

    def change(self, text: str) -> None:
        (self.root / "source.txt").write_text(text)
        for marker in (self.root / "control").glob("part-*"):
            marker.unlink()

    def runs(self) -> list:
        """MLflow's, newest first."""
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.root}/mlflow.db")
        return client.search_runs([client.get_experiment_by_name("virtex").experiment_id])

    def stage_processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                at_work = "VIRTEX_STAGE" in process.environ() and process.cwd() == str(self.root)
            except psutil.Error:
                continue
            if at_work and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def dvc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dvc", *arguments]
        return subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True)


@pytest.fixture(scope="session")
def new_workspace() -> Callable[..., AbstractContextManager[Workspace]]:
    """A repository with the stages of this dvc.yaml, ``stage.py NAME SOURCE`` and a Prefect server."""

    @contextlib.contextmanager
    def opened(root: Path, dvc_yaml: str) -> Iterator[Workspace]:
        from prefect.settings import PREFECT_API_URL
        from prefect.testing.utilities import prefect_test_harness

        shutil.copy(REPOSITORY / "params.yaml", root)
        _add_preset(root)
        (root / "control").mkdir()
        (root / "dvc.yaml").write_text(dvc_yaml)
        (root / "stage.py").write_text(STAGE)
        (root / "source.txt").write_text("one")
        (root / ".dvcignore").write_text("mlartifacts\n.virtex\n")
        subprocess.run(["git", "init", "-q", "."], cwd=root, check=True)
        with prefect_test_harness(server_startup_timeout=180):
            workspace = Workspace(root, str(PREFECT_API_URL.value()))
            workspace.dvc("init", "-q")
            yield workspace
        for process in workspace.stage_processes():
            process.kill()

    return opened


class Webhook:
    """Somebody to tell that a run ended.

    Attributes:
        url: of it, with a secret in it, as in chat rooms' addresses.
        answers: statuses of the next answers; then 200.
        delay: seconds before each.
        taken: the messages, whatever was answered.
    """

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[int] = []
        self.delay = 0.0
        self.taken: list[dict] = []


@pytest.fixture(scope="module")
def webhook_server() -> Iterator[Webhook]:
    webhook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            webhook.taken.append(json.loads(body))
            time.sleep(webhook.delay)
            with contextlib.suppress(OSError):
                self.send_response(webhook.answers.pop(0) if webhook.answers else 200)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
        webhook.url = f"http://127.0.0.1:{httpd.server_address[1]}/secret"
        yield webhook
        httpd.shutdown()


@pytest.fixture
def webhook(webhook_server: Webhook) -> Webhook:
    webhook_server.answers, webhook_server.delay = [], 0.0
    webhook_server.taken.clear()
    return webhook_server
