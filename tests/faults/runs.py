"""Faults of whole runs: the tiny world, stopped at any moment, and after a power cut through all ways in.

A run takes minutes, so one undisturbed run is made once and copied with its links, as DVC has them.
"""

import contextlib
import functools
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.faults.causes import Cut, Zeros
from tests.faults.judge import End, room

REPOSITORY = Path(__file__).resolve().parents[2]
TARGETS = ("caption", "voc07@virtex")
FLOW = (  # what a worker of Prefect does for a run of a deployment
    "from pathlib import Path; from pipelines.servers import start_temporary_server, use_workspace_server; "
    "use_workspace_server(Path.cwd()); start_temporary_server(Path.cwd())(lambda: False); "  # as served
    "from pipelines.run import virtex; from pipelines.commands import exit_status; "
    f"raise SystemExit(exit_status(virtex(targets={list(TARGETS)}, return_state=True)))"
)
WAYS = {
    "dvc repro": ("-m", "dvc", "repro", *TARGETS),
    "virtex run": ("-m", "pipelines.cli", "run", "--targets", *TARGETS),
    "deployment": ("-c", FLOW),
}
SAME = ("same",)
HELD_UP = ("same", "refused")  # at the first start; the next one has to end well
PATIENCE = 3600.0
STOPS = 20
_VOLATILE = ("seconds", "per_second", "bytes_per", "memory", "time")


def world(root: Path) -> None:
    """Lay out a repository like a user's clone, with the tiny world in force."""
    ignored = shutil.ignore_patterns("__pycache__", "cache", "tmp", "config.local")
    for name in ("components", "pipelines", "presets", ".dvc"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=ignored)
    (root / "datasets" / "archives").mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml", ".gitignore", ".dvcignore", "datasets/archives/README.md"):
        shutil.copy(REPOSITORY / name, root / name)
    shutil.copy(REPOSITORY / "tests" / "browser" / "tiny.yaml", root / "presets")
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "A clone"]):
        subprocess.run(["git", *words], cwd=root, check=True)
    start(root, "-c", "from components.params import overlay; overlay('tiny')").wait()


def start(root: Path, *words: str) -> subprocess.Popen[str]:
    hidden = ("MLFLOW_", "VIRTEX_", "PREFECT_", "DVC_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    patience = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "900"}
    patience |= {"PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL"}  # of the flow's own server, as it is closed
    with (root.parent / "words.txt").open("w") as stream:
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=root,
            env=kept | patience | {"OMP_NUM_THREADS": "1", "PATH": path},
            stdout=stream,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


@functools.cache
def undisturbed() -> Path:
    """A finished run, and what it came to in results.json beside it."""
    root = Path(tempfile.mkdtemp(dir=room())) / "world"
    root.mkdir()
    world(root)
    assert start(root, *WAYS["virtex run"]).wait(PATIENCE) == 0, (root.parent / "words.txt").read_text()
    return root


@contextlib.contextmanager
def _copied(root: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=room(), ignore_cleanup_errors=True) as folder:
        subprocess.run(["cp", "-a", root, f"{folder}/world"], check=True)
        yield Path(folder, "world")


def results(root: Path) -> dict[str, Any]:
    """What a run came to, without what says when and how fast."""
    found: dict[str, Any] = {}
    for pattern in ("data/tokenizer/*", "data/lmdb/*", "outputs/**/*"):
        for path in sorted(root.glob(pattern)):
            name = str(path.relative_to(root))
            if path.name == "metrics.json":
                found[name] = _steady(json.loads(path.read_text() or "null"))
            elif path.suffix in (".safetensors", ".lmdb", ".model", ".json", ".csv"):
                if path.name not in ("mlflow_run.json", "train.csv", "voc07.json"):
                    found[name] = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
            elif path.is_file():
                found[name] = path.stat().st_size > 0
    return found


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _steady(v) for k, v in value.items() if not any(word in k for word in _VOLATILE)}
    return value


def _status(process: subprocess.Popen[str]) -> int | None:
    """Exit status; None for a start that does not end, which is killed, as it is where this one is ended."""
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def _ended(root: Path, words: Sequence[str], right: dict[str, Any]) -> End:
    """Start, and hold what it comes to against the undisturbed run."""
    process = start(root, *words)
    status = _status(process)
    if status is None:
        return End("hung")
    said = (root.parent / "words.txt").read_text(errors="replace")
    if "Traceback (most recent call last)" in said:
        return End("traceback", said[-3000:])
    if status:
        lines = [line for line in said.splitlines() if "error" in line.lower() or "dvc.lock" in line]
        return End("refused" if lines else "unclear", "\n".join(lines or [said[-2000:]]))
    found = results(root)
    differing = sorted(name for name in {*found, *right} if found.get(name) != right.get(name))
    return End("wrong" if differing else "same", ", ".join(differing) or said[-500:])


# A power cut: files emptied, halved or with blocks of zeros, wherever they may have been in the making.

WORK = "outputs/caption/captions.json"
LASTING = ("mlflow.db half", "dvc.lock half", "dvc.lock empty")  # nobody but the user may give up a record
# Plain `dvc repro` refuses an empty rwlock before any code of ours starts; `virtex run` mends it.
OF_DVC = ("DVC's own files empty", "dvc repro")
DAMAGES: dict[str, tuple[tuple[str, ...], Callable[[Path], None]]] = {
    "small results empty": (("outputs/**/metrics.json", "outputs/**/*.csv", "outputs/caption/*"), Cut(0)),
    "results half": (("outputs/**/*.json", "outputs/**/*.png", "data/datasets/**/*.json"), Cut(0.5)),
    "stores and tokenizer half": (("data/lmdb/*", "data/tokenizer/*"), Cut(0.5)),
    "models with zeros": (("outputs/**/*.safetensors",), Zeros(0.5)),
    "cache empty": ((".dvc/cache/files/md5/*/*",), Cut(0)),
    "dvc.lock half": (("dvc.lock",), Cut(0.5)),
    "dvc.lock empty": (("dvc.lock",), Cut(0)),
    # With something to do for a run, which would not look at these otherwise.
    "DVC's own files empty": ((".dvc/tmp/**/*", ".dvc/cache/runs/**/*", WORK), Cut(0)),
    "mlflow.db half": (("mlflow.db", WORK), Cut(0.5)),
    "mlflow.db empty": (("mlflow.db", WORK), Cut(0)),
    "prefect.db half": ((".virtex/prefect.db", WORK), Cut(0.5)),
    "prefect.db empty": ((".virtex/prefect.db*", WORK), Cut(0)),
    "scratch half": ((".scratch/**/*", WORK), Cut(0.5)),
}


def damage(root: Path, patterns: Sequence[str], cause: Callable[[Path], None]) -> None:
    """Damage each file once, however many names it has, and leave it as read-only as it was."""
    files = [path for pattern in patterns for path in root.glob(pattern) if path.is_file()]
    by_inode = {path.stat().st_ino: path for path in files if path.stat().st_size}
    assert by_inode, f"nothing to damage: {patterns}"
    for path in by_inode.values():
        mode = path.stat().st_mode
        path.chmod(0o644)
        cause(path)
        path.chmod(mode)


def after_power_cut(damages: str, way: str) -> list[End]:
    """Damage a copy of the finished run and start; again, if it was refused."""
    base = undisturbed()
    right = results(base)
    with _copied(base) as root:
        damage(root, *DAMAGES[damages])
        first = _ended(root, WAYS[way], right)
        return [first, first if first.state != "refused" else _ended(root, WAYS[way], right)]


class StoppedRun:
    """One run that is stopped again and again, and goes on; the last start is left alone."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(dir=room(), ignore_cleanup_errors=True)
        self.root = Path(self._folder.name) / "world"
        self.root.mkdir()
        world(self.root)

    def stop(self, seconds: float, number: signal.Signals) -> list[End]:
        process = start(self.root, *WAYS["virtex run"])
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        if _status(process) is None:
            return [End("hung")]
        said = (self.root.parent / "words.txt").read_text(errors="replace")
        return [End("traceback" if "Traceback (most recent" in said else "killed", said[-3000:])]

    def finish(self) -> list[End]:
        return [_ended(self.root, WAYS["virtex run"], results(undisturbed()))]


@functools.cache
def stopped_run() -> StoppedRun:
    return StoppedRun()


Row = tuple[str, str, Sequence[Sequence[str]], Callable[[], Sequence[End]]]


def rows() -> Iterator[Row]:
    """Rows of the table: kind, name, allowed ends, trial."""
    for damages in DAMAGES:
        for way in WAYS:
            allowed = (HELD_UP, HELD_UP if damages in LASTING or (damages, way) == OF_DVC else SAME)
            yield (
                "run after a power cut",
                f"{damages}, {way}",
                allowed,
                functools.partial(after_power_cut, damages, way),
            )
    moments = random.Random(0)
    numbers = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    for count in range(STOPS):
        number, seconds = numbers[count % len(numbers)], round(moments.uniform(5, 60), 1)
        name = f"{count + 1:02}: {number.name} after {seconds} s"
        yield "run stopped", name, (("killed",),), lambda s=seconds, n=number: stopped_run().stop(s, n)
    yield "run stopped", "and left alone", (SAME,), lambda: stopped_run().finish()
