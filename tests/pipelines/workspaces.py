"""A repository in which tests run the command line, as a user does."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
IMPATIENT = """
import sys
from pipelines import cli, notifications, prefect_server
prefect_server._ANSWER_SECONDS, prefect_server._PATIENCE_SECONDS = 5.0, 3.0
notifications._BACKOFF_SECONDS = 0.1
sys.exit(cli.main(["run", *sys.argv[1:]]))
"""


class Workspace:
    """A repository, and the environment of the commands that work in it.

    Attributes:
        root: the repository.
        environment: of the commands; none of the user's own settings.
    """

    def __init__(self, root: Path, prefect_url: str, **variables: str) -> None:
        self.root = root
        hidden = ("MLFLOW_", "VIRTEX_", "PREFECT_")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        self.environment |= {
            "PYTHONPATH": str(REPOSITORY),
            "PREFECT_API_URL": prefect_url,
            "VIRTEX_MAX_PARALLEL": "2",
            "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        } | variables

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """``virtex run`` with these arguments; an empty variable is left out."""
        return self.start_module("pipelines.cli", "run", *arguments, **variables)

    def start_impatient(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """``virtex run`` that waits less long for answers, and between attempts."""
        return self._python("-c", IMPATIENT, *arguments, **variables)

    def start_module(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        return self._python("-m", *words, **variables)

    def _python(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *words],
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
