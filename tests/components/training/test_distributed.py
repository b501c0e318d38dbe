"""Several processes, or one in several rounds, do the work of one: two real ones over gloo."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from components.core.errors import InputError
from components.training.distributed import SINGLE_PROCESS, Processes, current, joined, with_sync_batch_norm

REPOSITORY = Path(__file__).resolve().parents[3]
CONFTEST = Path(__file__).with_name("conftest.py")
BATCH_SIZE = 4  # rows 0 and 1 are short, so that parts have different numbers of tokens
WAYS = {"whole": {}, "parts": {"accumulate": 2}, "compiled": {"accumulate": 2, "compile": True}}
PROGRAM = f"""
import functools, importlib.util, json, sys
from pathlib import Path
import torch
from components.training.distributed import joined
spec = importlib.util.spec_from_file_location("training_conftest", {str(CONFTEST)!r})
conftest = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(conftest)
torch.set_num_threads(1)
torch.compile = functools.partial(torch.compile, backend="aot_eager")  # traced; no C++ compiler
with joined() as processes:
    assert processes.count == 2
    assert processes.all_reduce_any(processes.rank == 1, False) == [True, False]
    assert processes.broadcast(7 if processes.is_first else 8) == 7
    results = {{}}
    for name, settings in {WAYS}.items():
        run = conftest.new_trainer(Path(sys.argv[1], name)).with_(
            processes=processes, is_random=False, batch_size={BATCH_SIZE}, pretrain=settings
        )
        results[name] = conftest.results(run.run())
    drawn = torch.rand(1)
    results["drawn"] = [float(number) for number in processes.gathered(drawn)]
    (Path(sys.argv[1]) / f"{{processes.rank}}.json").write_text(json.dumps(results))
"""


def whole(trainer, results) -> dict[str, Any]:
    return results(trainer.with_(is_random=False, batch_size=BATCH_SIZE).run())


def require_close(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for kind in ("train", "val"):
        assert len(found[kind]) == len(expected[kind])
        for row, other in zip(found[kind], expected[kind], strict=True):
            assert row == pytest.approx(other, abs=1e-4)
    for name, weights in expected["weights"].items():
        torch.testing.assert_close(
            torch.tensor(found["weights"][name]), torch.tensor(weights), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("accumulate", [2, 4])
def test_parts_of_an_iteration_give_what_the_whole_gives(trainer, results, tmp_path, accumulate: int) -> None:
    expected = whole(trainer, results)
    in_parts = trainer.with_(
        folder=tmp_path / "parts",
        is_random=False,
        batch_size=BATCH_SIZE,
        pretrain={"accumulate": accumulate},
    )
    found = results(in_parts.run())
    require_close(found, expected)
    assert found["num_images"] == expected["num_images"]


@pytest.mark.integration
def test_two_processes_give_what_one_gives(trainer, results, tmp_path: Path) -> None:
    expected = whole(trainer, results)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [*command, str(program), str(tmp_path)],
        env={
            "PATH": "",
            "CXX": "none is called",
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            "VIRTEX_DEVICE": "cpu",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("iteration 7/7") == len(WAYS)  # one line a run, not one a process
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for way in WAYS:
        for rank in ranks:
            require_close(rank[way], expected)
            assert rank[way]["num_images"] == expected["num_images"]
        assert ranks[0][way]["weights"] == ranks[1][way]["weights"]
    assert len(set(ranks[0]["drawn"])) == 2


def test_a_process_that_nobody_launched_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(variable, raising=False)
    with joined() as processes:
        assert processes is SINGLE_PROCESS
    assert current() is SINGLE_PROCESS
    assert processes.all_reduce_any(True, False) == [True, False]
    values = torch.tensor([1.0])
    assert processes.all_reduce_sum(values) is values
    module = torch.nn.Linear(1, 1)
    assert processes.wrap_ddp(module, torch.device("cpu")) is module


def test_restarts_that_could_not_work_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    place = {"RANK": "0", "WORLD_SIZE": "2", "TORCHELASTIC_MAX_RESTARTS": "3"}
    for variable, value in {**place, "TORCHELASTIC_USE_AGENT_STORE": "True"}.items():
        monkeypatch.setenv(variable, value)
    with (
        pytest.raises(InputError, match="--max-restarts needs TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"),
        joined(),
    ):
        raise AssertionError("it must not begin")


@pytest.mark.parametrize(
    ("rank", "count", "local_rank", "local_count", "gpu"),
    [(1, 2, 0, 1, 0), (0, 1, 0, 1, 0), (5, 8, 1, 4, 1)],  # one a machine; one in all; several a machine
)
def test_each_process_takes_a_gpu_by_its_number(
    monkeypatch: pytest.MonkeyPatch, rank: int, count: int, local_rank: int, local_count: int, gpu: int
) -> None:
    """torch.cuda.set_device refuses a device without a number, here as on a machine with GPUs."""
    place = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": local_rank, "LOCAL_WORLD_SIZE": local_count}
    for variable, value in place.items():
        monkeypatch.setenv(variable, str(value))
    for variable in ("VIRTEX_DEVICE", "TORCHELASTIC_MAX_RESTARTS"):
        monkeypatch.delenv(variable, raising=False)
    chosen, backends = [], []
    monkeypatch.setattr("components.training.distributed.end_with_parent", lambda: None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: local_count)
    monkeypatch.setattr("torch._C._cuda_setDevice", chosen.append, raising=False)
    monkeypatch.setattr("torch.distributed.init_process_group", backends.append)
    for name in ("new_group", "barrier", "destroy_process_group"):
        monkeypatch.setattr(f"torch.distributed.{name}", lambda *_, **__: None)
    with joined():
        assert (chosen, backends) == ([gpu], ["cpu:gloo,cuda:nccl"])


def test_batch_normalisation_over_processes_needs_gpus() -> None:
    module = torch.nn.Sequential(torch.nn.BatchNorm2d(2))
    assert with_sync_batch_norm(module, torch.device("cpu"), SINGLE_PROCESS) is module
    with pytest.raises(InputError, match=r"sync_batch_norm.*needs GPUs"):
        with_sync_batch_norm(module, torch.device("cpu"), Processes(0, 2))
    synced = with_sync_batch_norm(module, torch.device("cuda"), Processes(0, 2))
    assert isinstance(synced[0], torch.nn.SyncBatchNorm)
    assert synced.state_dict().keys() == module.state_dict().keys()


# One second takes the place of gloo's 30 minutes.
SLOW_OUTPUTS = """
import datetime, functools, sys, time
import torch.distributed as dist
from components.training.distributed import joined
dist.init_process_group = functools.partial(
    dist.init_process_group, timeout=datetime.timedelta(seconds=1)
)
with joined() as processes:
    if processes.is_first:
        time.sleep(4)
        print("written", flush=True)
"""


@pytest.mark.integration
def test_the_others_wait_for_the_first_ones_outputs_beyond_the_timeout(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(SLOW_OUTPUTS)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            str(program),
        ],
        env={"PATH": "", "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "VIRTEX_DEVICE": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "written\n"
