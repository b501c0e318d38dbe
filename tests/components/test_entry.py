"""A stage's process: exit codes and messages."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
STAGE = """
import errno
from components.entry import run_stage
from components.core.errors import InputError
from components.params import Baseline

def main(run, baseline):
    {body}

run_stage("baseline", (Baseline,), main, ("random",))
"""


def run(folder: Path, body: str, *arguments: str, seed: str = "0") -> subprocess.CompletedProcess[str]:
    (folder / "params.yaml").write_text(f"baseline:\n  seed: {seed}\n  sources: {{random: random}}\n")
    (folder / "stage.py").write_text(textwrap.dedent(STAGE.format(body=body)))
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/m.db",
    }
    return subprocess.run(
        [sys.executable, "stage.py", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_success_writes_metrics_and_the_run(tmp_path: Path) -> None:
    done = run(tmp_path, "run.metrics({'seed': baseline.seed})", "random")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "outputs/baseline/random").iterdir()} == {
        "metrics.json",
        "mlflow_run.json",
    }


@pytest.mark.parametrize(
    ("body", "arguments", "seed", "code", "message"),
    [
        ("raise InputError('photo.jpg: broken')", ["random"], "0", 2, "baseline: error: photo.jpg: broken"),
        ("pass", ["randon"], "0", 2, "takes one of random, got randon"),
        ("pass", ["random"], "-4", 2, "`baseline.seed`"),
        ("raise KeyboardInterrupt", ["random"], "0", 130, "interrupted"),
        (
            "raise OSError(errno.ENOSPC, 'No space', 'big.mdb')",
            ["random"],
            "0",
            2,
            "disk is full while writing big.mdb",
        ),
        (
            "raise PermissionError(errno.EACCES, 'Permission denied', 'photos')",
            ["random"],
            "0",
            2,
            "baseline: error: photos: Permission denied",
        ),
    ],
)
def test_mistakes_end_with_a_message_and_no_traceback(
    tmp_path: Path, body: str, arguments: list[str], seed: str, code: int, message: str
) -> None:
    done = run(tmp_path, body, *arguments, seed=seed)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_our_own_defects_keep_their_traceback(tmp_path: Path) -> None:
    done = run(tmp_path, "1 / 0", "random")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("components.stages.pretrain", "components.stages"),
        ("components.commands.doctor", "components.commands"),
        ("pipelines.cli", "components.tracking.store"),
    ],
)
def test_an_interrupt_while_it_imports_leaves_no_traceback(tmp_path: Path, module: str, package: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", module],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
    ) as stage:
        assert stage.stderr
        lines = []
        for line in stage.stderr:
            lines.append(line)
            if line.endswith(f" {package}\n"):
                stage.send_signal(signal.SIGINT)
        assert not [line for line in lines if not line.startswith("import time:")]
    assert stage.returncode == -signal.SIGINT
