"""A repository of small stages in several clones, and the workers and flows that run them."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parents[3]

DVC_YAML = """
stages:
  first:
    cmd: python stage.py first
    deps: [source.txt]
    params: [tokenize.vocab_size]
    outs: [outputs/first/out, outputs/first/mlflow_run.json]
  half:
    matrix: {side: [a, b]}
    cmd: python half.py ${item.side}
    meta: {cpus: all}
    deps: [outputs/first/out/text.txt]
    outs: ["outputs/half/${item.side}.txt"]
  last:
    cmd: python stage.py last
    deps: [outputs/half, tail.txt]
    outs: [outputs/last/out, outputs/last/mlflow_run.json]
"""

STAGE = """
import os, shutil, sys, time
from pathlib import Path
from components.params.yaml_files import load_yaml
from components.tracking import stage_run

name, control = sys.argv[1], Path(os.environ["CONTROL"])
size = load_yaml(Path("params.yaml"))["tokenize"]["vocab_size"]
with stage_run(name, None, {"tokenize": {"vocab_size": size}}) as run:
    print("hello from", name, flush=True)
    out = run.output_dir / "out"
    out.mkdir(parents=True, exist_ok=True)
    if name == "first":
        (out / "text.txt").write_text(f"{Path('source.txt').read_text()} {size}")
        (out / "large.bin").write_bytes(bytes(20_000_000))
    else:
        while (control / "hold").exists():
            (control / f"held-{os.getppid()}").touch()
            time.sleep(0.1)
        halves = [path.read_text() for path in sorted(Path("outputs/half").iterdir())]
        (out / "text.txt").write_text("".join(halves) + Path("tail.txt").read_text())
"""

HALF = """
import os, shutil, sys, time
from pathlib import Path

side, other = sys.argv[1], {"a": "b", "b": "a"}[sys.argv[1]]
control = Path(os.environ["CONTROL"])
Path("outputs/half").mkdir(parents=True, exist_ok=True)
(control / side).write_text(os.getcwd())
limit = time.monotonic() + 120
while not (control / other).exists():  # each wants a whole machine, and waits until the other runs too
    assert time.monotonic() < limit, "the other half never started beside this one"
    time.sleep(0.05)
shutil.copy("outputs/first/out/text.txt", f"outputs/half/{side}.txt")
"""


class Team:
    """A repository, its clones, and the servers that they share.

    Attributes:
        root: of everything.
        environment: of all their processes.
        scheduler: Dask's address.
        workers: processes by name of the clone.
    """

    def __init__(self, root: Path, prefect_url: str, endpoint: str) -> None:
        self.root = root
        self.control = root / "control"
        self.endpoint = endpoint
        self.scheduler = ""
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        hidden = ("MLFLOW_", "VIRTEX_", "PREFECT_", "AWS_", "DASK_", "CUDA_")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)} | {
            "PYTHONPATH": str(REPOSITORY),
            "PREFECT_API_URL": prefect_url,
            "OMP_NUM_THREADS": "1",
            "VIRTEX_NUM_WORKERS": "2",
            "AWS_ACCESS_KEY_ID": "team",
            "AWS_SECRET_ACCESS_KEY": "team-secret",
            "CONTROL": str(self.control),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def start(self, folder: str, log: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.root / log).open("ab") as stream:
            return subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.root / folder,
                env=self.environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log(self, name: str) -> str:
        return (self.root / name).read_text()

    def start_worker(self, clone: str) -> None:
        self.workers[clone] = self.start(
            clone, f"{clone}.log", "pipelines.cli", "worker", self.scheduler, "--name", clone
        )

    def start_flow(self, *arguments: str) -> subprocess.Popen[bytes]:
        (self.root / "flow.log").unlink(missing_ok=True)
        return self.start("flow", "flow.log", "pipelines.cli", "run", "--no-report", *arguments)

    def run_flow(self, *arguments: str, cluster: bool = True) -> str:
        options = ("--cluster", self.scheduler) if cluster else ()
        process = self.start_flow(*options, *arguments)
        assert process.wait(timeout=280) == 0, self.log("flow.log") + self.log("a.log") + self.log("b.log")
        return self.log("flow.log")

    def change(self, text: str) -> None:
        """Change what only the last stage depends on."""
        (self.root / "origin" / "tail.txt").write_text(text)
        git(self.root / "origin", "commit", "-qam", text)
        for clone in ("flow", "a", "b"):
            git(self.root / clone, "pull", "-q")

    def hold(self) -> psutil.Process:
        """Wait until the last stage is held on a worker; returns its process."""
        limit = time.monotonic() + 240
        while True:
            for mark in self.control.glob("held-*"):
                return psutil.Process(int(mark.name.removeprefix("held-")))
            assert time.monotonic() < limit, self.log("flow.log")
            time.sleep(0.1)

    def release(self) -> None:
        for mark in self.control.glob("h*ld*"):
            mark.unlink()

    def stage_processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if "VIRTEX_STAGE" in process.environ() and process.environ().get("CONTROL") == str(
                    self.control
                ):
                    found.append(process)
            except psutil.Error:
                continue
        return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]

    def runs(self) -> list:
        from mlflow import MlflowClient

        client = MlflowClient(self.environment["MLFLOW_TRACKING_URI"])
        return client.search_runs([client.get_experiment_by_name("virtex").experiment_id])


def git(folder: Path, *arguments: str) -> None:
    author = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", *author, *arguments], cwd=folder, check=True)


def make_repository(root: Path, endpoint: str) -> None:
    root.mkdir()
    shutil.copy(REPOSITORY / "params.yaml", root)
    for name, text in (
        ("dvc.yaml", DVC_YAML),
        ("stage.py", STAGE),
        ("half.py", HALF),
        ("source.txt", "one"),
        ("tail.txt", ""),
    ):
        (root / name).write_text(text)
    (root / ".gitignore").write_text("/outputs/\n/.virtex/\n/mlflow.db*\n/mlartifacts/\n")
    git(root, "init", "-q", "-b", "main")
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "-q"], cwd=root, check=True)
    (root / ".dvcignore").write_text(".virtex\nmlartifacts\n")
    remote = f"['remote \"team\"']\n    url = s3://store/virtex\n    endpointurl = {endpoint}\n"
    (root / ".dvc" / "config").write_text(f"[core]\n    remote = team\n    analytics = false\n{remote}")
    git(root, "add", ".")
    git(root, "commit", "-qm", "one")


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    import urllib.request

    limit = time.monotonic() + 180
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.2)
