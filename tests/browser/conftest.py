"""A small run of the real pipeline, `virtex ui`, and a Chromium that looks at its pages.

Pictures of what it saw go to ``VIRTEX_SCREENSHOTS``, else to ``.scratch/screenshots``.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[dev]'")

REPOSITORY = Path(__file__).resolve().parents[2]
SCREENSHOTS = Path(os.environ.get("VIRTEX_SCREENSHOTS", REPOSITORY / ".scratch" / "screenshots"))
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SWITCHES = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
WAIT = 60_000  # milliseconds; the machines are slow at times


@dataclass(frozen=True)
class Run:
    """A finished run and the servers that show it.

    Attributes:
        root: its workspace.
        mlflow: address of the MLflow pages.
        prefect: address of the Prefect pages.
    """

    root: Path
    mlflow: str
    prefect: str

    def runs(self) -> dict[str, str]:
        """Ids of the MLflow runs by name."""
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.root}/mlflow.db")
        found = client.search_runs([self.experiment()])
        return {run.info.run_name: run.info.run_id for run in found}

    def experiment(self) -> str:
        from mlflow import MlflowClient

        experiment = MlflowClient(f"sqlite:///{self.root}/mlflow.db").get_experiment_by_name("virtex")
        assert experiment
        return str(experiment.experiment_id)

    def run_page(self, run_id: str, tab: str = "") -> str:
        return f"{self.mlflow}/#/experiments/{self.experiment()}/runs/{run_id}{tab}"


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository like a user's clone, with a preset of its own."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH: install it to have the pages looked at (apt-get install chromium)")
    root = tmp_path_factory.mktemp("browser") / "clone"
    root.mkdir()
    for name in ("components", "pipelines", "presets", ".dvc"):
        leave = shutil.ignore_patterns("__pycache__", "cache", "tmp", "config.local")
        shutil.copytree(REPOSITORY / name, root / name, ignore=leave)
    (root / "datasets" / "archives").mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml", ".gitignore", ".dvcignore", "datasets/archives/README.md"):
        shutil.copy(REPOSITORY / name, root / name)
    shutil.copy(Path(__file__).with_name("tiny.yaml"), root / "presets")
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "A clone"]):
        subprocess.run(["git", *arguments], cwd=root, check=True)
    return root


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    hidden = ("MLFLOW_", "VIRTEX_", "PREFECT_", "DVC_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return kept | {"OMP_NUM_THREADS": "1", "PATH": path}


@pytest.fixture(scope="module")
def finished(workspace: Path, environment: dict[str, str]) -> Iterator[Run]:
    command = [sys.executable, "-m", "pipelines.cli"]
    done = subprocess.run(
        [*command, "run", "--preset", "tiny"], cwd=workspace, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    with shown(workspace, environment) as run:
        yield run


@contextlib.contextmanager
def shown(workspace: Path, environment: dict[str, str]) -> Iterator[Run]:
    """The workspace's servers, for as long as it is looked at."""
    command = [sys.executable, "-m", "pipelines.cli"]
    ports = [str(free_port()), str(free_port())]
    log = workspace / "ui.log"
    with log.open("w") as output:
        ui = subprocess.Popen(
            [*command, "ui", "--mlflow-port", ports[0], "--prefect-port", ports[1]],
            cwd=workspace,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        addresses = wait_for_addresses(ui, log)
        yield Run(workspace, addresses["MLflow"], addresses["Prefect"])
    finally:
        ui.send_signal(signal.SIGINT)
        ui.wait(timeout=60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_addresses(ui: subprocess.Popen[bytes], log: Path) -> dict[str, str]:
    limit = time.monotonic() + 180
    while "Ctrl-C stops" not in log.read_text():
        assert ui.poll() is None, log.read_text()
        assert time.monotonic() < limit, log.read_text()
        time.sleep(0.2)
    addresses = dict(re.findall(r"^(MLflow|Prefect) +(http://127\.0\.0\.1:\d+)", log.read_text(), re.M))
    for address in addresses.values():
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert answer.status == 200
    return addresses


@pytest.fixture(scope="module")  # no longer: while it is open an event loop runs in the thread of the tests
def browser(workspace: Path) -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: playwright.Browser) -> Iterator[playwright.Page]:
    """A page that answers nothing from outside this machine."""
    context = browser.new_context(viewport={"width": 1500, "height": 1000})
    context.set_default_timeout(WAIT)
    context.route(re.compile(r"^https?://(?!127\.0\.0\.1)"), lambda route: route.abort())
    yield context.new_page()
    context.close()


@pytest.fixture
def keep(page: playwright.Page) -> Callable[[str], None]:
    """Keep a picture of the page under a name."""

    def screenshot(name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png")

    return screenshot
