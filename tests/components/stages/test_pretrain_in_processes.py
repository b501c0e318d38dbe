"""The pretrain stage in two processes: started by itself or by torchrun, killed, stopped, continued."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from components import params
from components.core import paths
from components.stages import pretrain
from components.tracking.run import StageRun
from tests.components.stages.pretraining import digests

pytestmark = pytest.mark.integration

REPOSITORY = Path(pretrain.__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
# The stage, in which the second process sends itself a signal after its third iteration, the first time.
WORKER = """
import os, runpy, signal, sys, time
from pathlib import Path
from components.training.metrics import Progress
advance, mark, number = Progress.advance, Path("signalled"), getattr(signal, sys.argv.pop())
def advance_and_be_signalled(self, num_images):
    advance(self, num_images)
    if self._iteration == 3 and os.environ["RANK"] == "1" and not mark.exists():
        mark.touch()
        parent = os.getppid()
        victim = os.getpid()
        os.kill(victim, number)
        while victim == parent == os.getppid():
            time.sleep(0.01)
Progress.advance = advance_and_be_signalled
runpy.run_module("components.stages.pretrain", run_name="__main__")
"""


def start(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",  # nobody answers; the work goes on
        **variables,
    }
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_a_killed_process_is_started_again_and_ends_with_the_same_model(
    sections: list[params.Section], tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    stage = [sys.executable, "-m", "components.stages.pretrain"]
    whole = start(stage, VIRTEX_NUM_PROCESSES="2", MLFLOW_TRACKING_URI=store)
    assert whole.returncode == 0, whole.stderr
    assert whole.stderr.count("iteration 8/8") == 1
    expected = digests()
    assert len(expected) == 2
    metrics = json.loads((paths.stage_dir("pretrain") / "metrics.json").read_text())
    assert (metrics["iterations"], metrics["images_seen"]) == (8, 32)
    client = MlflowClient(store)
    (run,) = client.search_runs([client.get_experiment_by_name("virtex").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["val/loss"] == pytest.approx(metrics["val_loss"])

    (tmp_path / "worker.py").write_text(WORKER)
    killed = start(
        [*TORCHRUN, "--max-restarts", "3", "worker.py", "SIGKILL"], **OWN_STORE, MLFLOW_TRACKING_URI=store
    )
    assert killed.returncode == 0, killed.stderr
    runs = client.search_runs([client.get_experiment_by_name("virtex").experiment_id])
    (again,) = (one for one in runs if one.info.run_id != run.info.run_id)
    assert again.info.status == "FINISHED"
    assert int(again.data.tags["torchrun.restarts"]) >= 1
    assert again.data.metrics["val/loss"] == pytest.approx(metrics["val_loss"])
    assert (tmp_path / "signalled").exists()
    assert killed.stdout.count("continuing after iteration 2,") == 1
    assert digests() == expected


def test_stopped_by_a_signal_to_one_and_continued_by_one_alone(
    sections: list[params.Section], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    stopped = start([*TORCHRUN, "worker.py", "SIGTERM"])
    assert stopped.returncode != 0
    assert stopped.stderr.count("pretrain: error: interrupted; what was finished is kept") == 1
    (checkpoint,) = paths.SCRATCH_DIR.glob("pretrain/*/iteration_000000003.pt")
    assert not paths.CANDIDATES_DIR.exists()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pretrain.main(StageRun("pretrain", None, paths.stage_dir("pretrain")), *sections)
    finally:
        torch.set_num_threads(threads)
    expected = f"continuing after iteration 3, from {checkpoint} (2 before, now 1 processes)"
    assert expected in capsys.readouterr().out
    assert list(digests()) == ["iteration_000000004.safetensors", "iteration_000000008.safetensors"]


def test_processes_end_with_torchrun_even_if_it_is_killed(
    sections: list[params.Section], tmp_path: Path
) -> None:
    (tmp_path / "worker.py").write_text(WORKER.replace("victim = os.getpid()", "victim = parent"))
    killed = start([*TORCHRUN, "worker.py", "SIGKILL"])  # returns when no process holds its pipes any more
    assert killed.returncode == -9
    assert killed.stderr.count("pretrain: error: interrupted; what was finished is kept") == 1
    assert list(paths.SCRATCH_DIR.glob("pretrain/*/iteration_000000003.pt"))
    assert not paths.CANDIDATES_DIR.exists()


def test_a_mistake_is_said_once(sections: list[params.Section]) -> None:
    command = [sys.executable, "-m", "components.stages.pretrain"]
    text = paths.PARAMS.read_text(encoding="utf-8")
    paths.PARAMS.write_text(text.replace("batch_size: 4 ", "batch_size: 5 ", 1), encoding="utf-8")
    done = start(command, VIRTEX_NUM_PROCESSES="2")
    assert done.returncode == 2
    assert done.stderr.count("pretrain: error: 5 images per iteration") == 1
    assert "Traceback" not in done.stderr
