"""The runner against Dask workers of this process, each with a clone of its own; what stages do is made up.

Real stages, a real remote, MLflow and Prefect are in test_two_workers.
"""

import http.server
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

dask = pytest.importorskip("dask", reason="the extra `cluster` is not installed")
distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

from components.core.errors import InputError  # noqa: E402
from pipelines.cluster import runner as runner_module  # noqa: E402
from pipelines.cluster import worker as clone_module  # noqa: E402
from pipelines.cluster import worker as worker_module  # noqa: E402
from pipelines.cluster.job import CPU, MEMORY  # noqa: E402
from pipelines.cluster.requirements import TransferError  # noqa: E402
from pipelines.cluster.runner import cluster_runner, fit_workers  # noqa: E402
from pipelines.cluster.security import (  # noqa: E402
    FOLDER_VARIABLE,
    make_certificates,
    security_for,
)
from pipelines.cluster.worker import Clone  # noqa: E402
from pipelines.dvc_files import read_entries  # noqa: E402
from pipelines.dvc_internals import put_entries, read_plan  # noqa: E402
from pipelines.graph import Stage  # noqa: E402
from pipelines.process import Stop  # noqa: E402
from pipelines.runners import check_cluster  # noqa: E402
from pipelines.stage import Outcome  # noqa: E402

STAGES = """
stages:
  first:
    cmd: make first
    deps: [source.txt]
    outs: [first.txt]
  second:
    cmd: make second
    deps: [first.txt]
    outs: [second.txt]
"""
CONFIG = "[core]\n    remote = team\n    analytics = false\n['remote \"team\"']\n    url = /nowhere\n"


class Lab:
    """A repository in ``flow``, the working directory, clones of it, and a Dask cluster that works in them.

    Attributes:
        root: of everything.
        said: what the flow and its stages have logged.
        moved: what has been pushed and pulled: clone, direction, paths.
        behave: what a stage does in a clone; returns its state.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.flow = root / "flow"
        self.said: list[str] = []
        self.moved: list[tuple[str, str, tuple[str, ...]]] = []
        self.behave: Callable[[str, str, Stop], str] = lambda clone, stage, stop: "ran"
        self.running = threading.Event()
        self.cluster: distributed.SpecCluster | None = None

    @property
    def address(self) -> str:
        assert self.cluster
        return str(self.cluster.scheduler_address)

    def start(self, *names: str, security: "distributed.Security | None" = None) -> None:
        workers = {}
        secured = {"security": security, "protocol": "tls://"} if security else {}
        for name in names:
            shutil.copytree(self.flow, self.root / name)
            options = {"name": name, "nthreads": 2, "resources": {CPU: 2, MEMORY: 1}, "dashboard": False}
            options |= {"plugins": (Clone(self.root / name),), **secured}
            workers[name] = {"cls": distributed.Worker, "options": options}
        options = {"dashboard": False, "host": "127.0.0.1", "port": 0, **secured}
        scheduler = {"cls": distributed.Scheduler, "options": options}
        self.cluster = distributed.SpecCluster(
            workers=workers, scheduler=scheduler, security=security, silence_logs="CRITICAL"
        )

    def close(self, name: str) -> None:
        """Let a worker, or the ``scheduler``, go."""
        assert self.cluster
        server = self.cluster.scheduler if name == "scheduler" else self.cluster.workers[name]
        self.cluster.sync(server.close)

    def run(self, stop: Stop | None = None) -> dict[str, tuple[str, str]]:
        """State and message of each stage."""
        plan, stop = read_plan(), stop or Stop()
        with cluster_runner(self.address, self.flow, plan, (), {}, False, stop, self.said.append) as runner:
            for stage in plan.stages:
                if all(runner.outcomes[name].state == "ran" for name in stage.upstream):
                    runner.run(stage, self.said.append)
            return {name: (outcome.state, outcome.message) for name, outcome in runner.outcomes.items()}

    def where(self, ended: "Future[dict[str, tuple[str, str]]]") -> str:
        """Wait until a stage that waits is running; returns on which worker."""
        while not self.running.wait(0.1):
            assert not ended.done(), ended.result()
        self.running.clear()
        return self.last

    def wait(self, clone: str, stage: str, stop: Stop) -> str:
        """What the second stage may do: wait to be stopped."""
        if stage == "first":
            return "ran"
        self.last = clone
        self.running.set()
        stop.wait(60)
        return "stopped"


class MadeUpStages:
    """In place of the worker's StageRunner."""

    lab: Lab

    def __init__(self, root: Path, variables: object, force: bool, stop: Stop, max_parallel: int) -> None:
        self._root, self._stop = root, stop

    def run(self, stage: Stage, log: Callable[[str], None], absent: object) -> Outcome:
        log(f"hello from {stage.name}")
        state = self.lab.behave(self._root.name, stage.name, self._stop)
        if state == "ran":
            (self._root / stage.outs[0]).write_text("made")
            outs = [{"path": stage.outs[0], "md5": f"{stage.name}-{self._root.name}", "size": 4}]
            put_entries(self._root, {stage.name: {"cmd": f"make {stage.name}", "outs": outs}}, {stage.name})
        return Outcome(stage.name, state, 1.0, "" if state == "ran" else f"{stage.name}: {state}")


class Answer(http.server.BaseHTTPRequestHandler):
    wants_password = False

    def do_GET(self) -> None:
        is_refused = self.wants_password and self.path != "/health" and not self.headers["Authorization"]
        self.send_response(401 if is_refused else 200)
        self.end_headers()

    do_POST = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        return


def git(folder: Path, *arguments: str) -> None:
    author = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", *author, *arguments], cwd=folder, check=True)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    lab = MadeUpStages.lab = Lab(tmp_path)
    (lab.flow / ".dvc").mkdir(parents=True)
    for name, text in (
        ("dvc.yaml", STAGES),
        ("source.txt", "1"),
        ("params.yaml", "a: 1\n"),
        (".dvc/config", CONFIG),
    ):
        (lab.flow / name).write_text(text)
    (lab.flow / ".gitignore").write_text("/.dvc/tmp\n/.dvc/cache\n/*.txt\n!/source.txt\n")
    git(lab.flow, "init", "-q", "-b", "main")
    git(lab.flow, "add", ".")
    git(lab.flow, "commit", "-qm", "one")
    monkeypatch.chdir(lab.flow)

    def moves(direction: str) -> Callable[..., None]:
        return lambda root, paths, cancelled: lab.moved.append((root.name, direction, tuple(paths)))

    for module in (clone_module, runner_module):
        monkeypatch.setattr(module, "push", moves("push"))
        monkeypatch.setattr(module, "pull", moves("pull"))
    monkeypatch.setattr(clone_module, "StageRunner", MadeUpStages)
    monkeypatch.setattr(runner_module, "_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(runner_module, "_WORKER_SECONDS", 1.0)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    lab.mlflow = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", lab.mlflow)
    try:
        yield lab
    finally:
        if lab.cluster:
            with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):  # where the scheduler has gone
                lab.cluster.close()
        server.shutdown()
        server.server_close()


def test_what_travels(lab):
    lab.start("a")
    (lab.flow / "params.yaml").write_text("a: 2\n")  # a preset, say
    assert lab.run() == {"first": ("ran", ""), "second": ("ran", "")}
    assert lab.moved == [
        ("a", "push", ("first.txt",)),
        ("a", "pull", ("first.txt",)),
        ("a", "push", ("second.txt",)),
        ("flow", "pull", ("first.txt", "second.txt")),
    ]
    assert (lab.root / "a" / "params.yaml").read_text() == "a: 2\n"
    entries = read_entries(lab.flow, {"first", "second"})
    assert [entries[name]["outs"][0]["md5"] for name in ("first", "second")] == ["first-a", "second-a"]
    assert lab.said[1:] == ["first on a", "hello from first", "second on a", "hello from second"]


def test_a_stage_that_fails(lab):
    lab.start("a")
    lab.behave = lambda clone, stage, stop: "failed" if stage == "second" else "ran"
    assert lab.run() == {"first": ("ran", ""), "second": ("failed", "second: failed")}
    assert lab.moved[-1] == ("flow", "pull", ("first.txt",))  # what was made before is brought home
    assert set(read_entries(lab.flow, {"first", "second"})) == {"first"}


def test_a_remote_that_takes_nothing(lab, monkeypatch):
    def refuse(root: Path, paths: object, cancelled: object) -> None:
        raise TransferError("dvc push: ERROR: no such bucket")

    monkeypatch.setattr(clone_module, "push", refuse)
    lab.start("a")
    assert lab.run() == {"first": ("failed", "first on a: dvc push: ERROR: no such bucket")}
    assert not (lab.flow / "dvc.lock").exists()  # whose results nobody could fetch


def test_a_worker_that_leaves_hands_its_stage_on_and_a_stop_ends_it(lab):
    lab.start("a", "b")
    lab.behave, stop = lab.wait, Stop()
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(lab.run, stop)
        name = lab.where(ended)
        lab.close(name)
        assert lab.where(ended) == {"a": "b", "b": "a"}[name]
        stop.set()
        assert ended.result(60)["second"] == ("stopped", "second: stopped")


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("a", "second: no worker is left at {}: `virtex worker` starts one"),
        (
            "scheduler",
            "second: the Dask scheduler at {} is gone: start it, the workers and the run again",
        ),
    ],
)
def test_nobody_is_left(lab, gone, message, monkeypatch):
    lab.start("a")
    address, lab.behave = lab.address, lab.wait
    monkeypatch.setattr(runner_module, "_WORKER_SECONDS", 1.0 if gone == "a" else 60.0)
    monkeypatch.setattr("pipelines.cluster.runner._CONNECT_SECONDS", 3)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(lab.run)
        assert lab.where(ended) == "a"
        lab.close(gone)
        assert ended.result(60)["second"] == ("failed", message.format(address))


def test_clones_that_differ(lab):
    lab.start("a", "b")
    (lab.root / "a" / "dvc.yaml").write_text("stages: {}\n")
    (lab.root / "b" / "notes.md").write_text("nobody's code")
    with pytest.raises(InputError) as error, fit_workers(lab.address, lab.flow):
        pass
    assert f"a: {lab.root / 'a'}: dvc.yaml: changed, and in no commit" in str(error.value)
    assert "b: " not in str(error.value)
    (lab.flow / "source.txt").write_text("two\n")
    git(lab.flow, "commit", "-qam", "two")
    with pytest.raises(InputError, match=r"b: .*is at commit \w{12}, the flow at \w{12}; stop the worker"):
        check_cluster(lab.address, lab.flow)
    (lab.flow / "source.txt").write_text("three\n")
    with pytest.raises(InputError, match=r"source\.txt: changed, and in no commit"):
        check_cluster(lab.address, lab.flow)


def test_what_a_worker_lacks(lab, monkeypatch):
    lab.start("a")
    uri = "http://127.0.0.1:9"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError, match=re.escape(f"a: MLflow at {uri} does not answer there")):
        check_cluster(lab.address, lab.flow)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", lab.mlflow)
    monkeypatch.setattr(Answer, "wants_password", True)
    with pytest.raises(
        InputError, match=re.escape(f"a: MLflow at {lab.mlflow} wants a user and a password; set")
    ):
        check_cluster(lab.address, lab.flow)
    git(lab.root / "a", "update-index", "--assume-unchanged", ".dvc/config")
    (lab.root / "a" / ".dvc" / "config").write_text("")
    with pytest.raises(InputError, match=r"a: .*no DVC remote, through which machines exchange files"):
        check_cluster(lab.address, lab.flow)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    with pytest.raises(InputError, match="several machines need one MLflow server"):
        check_cluster(lab.address, lab.flow)


def test_nobody_is_there(lab, monkeypatch):
    lab.start()
    with pytest.raises(InputError, match=r"no workers at tcp://.*: start `virtex worker tcp://"):
        check_cluster(lab.address, lab.flow)
    monkeypatch.setattr("pipelines.cluster.runner._CONNECT_SECONDS", 1)
    with pytest.raises(InputError, match="no Dask scheduler answers at tcp://127"):
        check_cluster("tcp://127.0.0.1:9", lab.flow)
    monkeypatch.setattr(worker_module, "_SCHEDULER_SECONDS", 1.0)
    with pytest.raises(InputError, match="no Dask scheduler takes this worker"):
        worker_module.serve(lab.flow, "tcp://127.0.0.1:9", "a")


def test_a_cluster_with_certificates_takes_those_who_have_them_and_nobody_else(lab, monkeypatch):
    certificates = lab.root / "certificates"
    monkeypatch.setenv(FOLDER_VARIABLE, str(certificates))
    make_certificates(lab.flow, ["localhost", "127.0.0.1"])
    lab.start("a", security=security_for("tls://127.0.0.1:1", lab.flow))
    assert lab.address.startswith("tls://127.0.0.1:")
    assert lab.run()["second"] == ("ran", "")

    monkeypatch.setattr("pipelines.cluster.runner._CONNECT_SECONDS", 2)
    monkeypatch.setattr(worker_module, "_SCHEDULER_SECONDS", 2.0)
    plain = lab.address.replace("tls://", "tcp://")
    with pytest.raises(InputError, match="no Dask scheduler answers at tcp://127"):
        check_cluster(plain, lab.flow)
    with pytest.raises(InputError, match="no Dask scheduler takes this worker"):
        worker_module.serve(lab.flow, plain, "stranger")
    monkeypatch.setenv(FOLDER_VARIABLE, str(lab.root / "others"))
    with pytest.raises(
        InputError, match=r"others: no authority\.pem, certificate\.pem, key\.pem; make them once"
    ):
        check_cluster(lab.address, lab.flow)
    make_certificates(lab.flow, ["localhost"])  # of another cluster
    with pytest.raises(InputError, match="no Dask scheduler answers at tls://127"):
        check_cluster(lab.address, lab.flow)
    with pytest.raises(InputError, match="no Dask scheduler takes this worker"):
        worker_module.serve(lab.flow, lab.address, "stranger")
