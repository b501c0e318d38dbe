"""Workspaces as the command line finds them: one with parameters and a preset, one with stages that run."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from workspaces import REPOSITORY, Workspace

from pipelines.prefect_database import ensure_database

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


@pytest.fixture(scope="session")
def prefect_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database of Prefect's, once for all processes of the tests: it is made in a hundred steps."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "prefect"
    folder.mkdir(exist_ok=True)
    ensure_database(folder / "prefect.db")
    return folder / "prefect.db"


@pytest.fixture(scope="session")
def prefect_harness(prefect_database: Path) -> Callable[[], AbstractContextManager[str]]:
    """Prefect's own harness on a copy of that database; gives the server's address."""

    @contextlib.contextmanager
    def opened() -> Iterator[str]:
        from prefect.settings import PREFECT_API_URL
        from prefect.testing import utilities

        def folder() -> str:
            made = tempfile.mkdtemp()
            shutil.copy(prefect_database, f"{made}/prefect-test.db")
            return made

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(utilities, "mkdtemp", folder)
            with utilities.prefect_test_harness(server_startup_timeout=180):
                yield str(PREFECT_API_URL.value())

    return opened


@pytest.fixture(scope="session")
def new_workspace(prefect_harness) -> Callable[..., AbstractContextManager[Workspace]]:
    """A repository with the stages of this dvc.yaml, ``stage.py NAME SOURCE`` and a Prefect server.

    Without ``has_server`` its commands start one themselves.
    """

    @contextlib.contextmanager
    def opened(root: Path, dvc_yaml: str, has_server: bool = True) -> Iterator[Workspace]:
        shutil.copy(REPOSITORY / "params.yaml", root)
        _add_preset(root)
        (root / "control").mkdir()
        (root / "dvc.yaml").write_text(dvc_yaml)
        (root / "stage.py").write_text(STAGE)
        (root / "source.txt").write_text("one")
        (root / ".dvcignore").write_text("mlartifacts\n.virtex\n")
        subprocess.run(["git", "init", "-q", "."], cwd=root, check=True)
        with prefect_harness() if has_server else contextlib.nullcontext("") as address:
            workspace = Workspace(root, address)
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
