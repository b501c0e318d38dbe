"""Several processes that train one model: how they start, which this is, what they exchange.

``torchrun`` or ``launch`` starts them. Each holds the whole model, works on its share
of every iteration's images, and takes the mean of all gradients.
"""

import ctypes
import os
import signal
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.nn.parallel import DistributedDataParallel

from components.core import machine
from components.core.errors import EXIT_INTERRUPTED, InputError

# Processes that are started again must not find the addresses of those that crashed, which they do in the
# store that they share with torchrun by default (pytorch issue 135712).
OWN_STORE_VARIABLE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
# The last to wait for at a stop: the first process closes its MLflow run meanwhile.
_PARTING_SECONDS = 60
# How long the others wait for the first one's outputs: scoring LVIS's 20,000 images in one process outlasts
# gloo's 30 minutes.
_OUTPUT_TIME = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those that train together; every method waits until all have called it.

    Attributes:
        rank: its number, from 0; the first one writes the outputs.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Return whether this is the one that writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all have come this far."""
        self.all_reduce_any(False)

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Return ``values`` summed over the processes, in place; a GPU is not waited for."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def all_reduce_any(self, *flags: bool) -> list[bool]:
        """Return whether each flag is set in any of the processes."""
        if self.count == 1:
            return list(flags)
        numbers = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return [bool(number) for number in numbers.tolist()]

    def broadcast(self, number: int) -> int:
        """Return the first process's ``number``."""
        if self.count == 1:
            return number
        told = torch.tensor(number)
        dist.broadcast(told, src=0)
        return int(told)

    def gathered(self, values: Tensor) -> list[Tensor]:
        """Return everybody's ``values`` by rank: CPU tensors of one shape and dtype."""
        if self.count == 1:
            return [values]
        parts = [torch.empty_like(values) for _ in range(self.count)]
        dist.all_gather(parts, values)
        return parts

    def gathered_text(self, text: str) -> list[str]:
        """Return everybody's ``text`` by rank."""
        own = torch.from_numpy(np.frombuffer(text.encode(), np.uint8).copy())
        lengths = [int(length) for length in self.gathered(torch.tensor(len(own)))]
        padded = torch.zeros(max(lengths), dtype=torch.uint8)
        padded[: len(own)] = own
        parts = self.gathered(padded)
        return [bytes(part[:size].numpy()).decode() for part, size in zip(parts, lengths, strict=True)]

    def share_buffers(self, module: nn.Module) -> None:
        """Give everybody the first process's buffers: the running statistics of batch normalisation."""
        if self.count > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    def wrap_ddp(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Return ``module``, wrapped so that ``backward`` leaves the mean of all processes' gradients."""
        if self.count == 1:
            return module
        device_ids = [device] if device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=device_ids, gradient_as_bucket_view=True)


SINGLE_PROCESS = Processes()


@contextmanager
def joined() -> Iterator[Processes]:
    """Meet the processes that ``torchrun`` started with this one; leave together, also after Ctrl-C.

    Raises:
        InputError: if this process's GPU cannot be used, or a restart could not work.
    """
    if not machine.is_launched():
        yield SINGLE_PROCESS
        return
    end_with_parent()
    if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) and _shares_store():
        raise InputError(
            f"torchrun --max-restarts needs {OWN_STORE_VARIABLE}=1 in its environment, or processes that are "
            "started again look for those that crashed; set it and start again"
        )
    device = torch.device(machine.device_name())
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    patient: Any = dist.new_group(backend="gloo", timeout=_OUTPUT_TIME)
    try:
        yield current()
    except KeyboardInterrupt:
        _part()
        raise
    dist.barrier(patient)  # the first one scores and writes its outputs meanwhile
    dist.destroy_process_group()


def current() -> Processes:
    """Return this process among those it has ``joined``."""
    return Processes(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else SINGLE_PROCESS


def with_sync_batch_norm(objective: nn.Module, device: torch.device, processes: Processes) -> nn.Module:
    """Return ``objective`` with batch normalisation over all processes' images; unchanged if there is one.

    Raises:
        InputError: on a CPU, for which torch has none.
    """
    if processes.count == 1:
        return objective
    if device.type != "cuda":
        raise InputError(
            f"pretrain.sync_batch_norm: {processes.count} processes on {device} cannot do it, it needs GPUs; "
            "set it to false"
        )
    return nn.SyncBatchNorm.convert_sync_batchnorm(objective)


def _shares_store() -> bool:
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _part() -> None:
    """Wait for the others: a process that ends first would make ``torchrun`` kill them."""
    try:
        work = dist.all_reduce(torch.zeros(1), async_op=True)
        work.wait(timedelta(seconds=_PARTING_SECONDS))
    except RuntimeError:  # somebody is gone already
        pass


# Time to finish an iteration and write a checkpoint of some gigabytes before torch kills.
_SHUTDOWN_SECONDS = "120"


def launch(module: str, arguments: Sequence[str], num_processes: int, max_restarts: int) -> int:
    """Run ``python -m module arguments`` in ``num_processes`` processes; returns the exit code for this one.

    The code is 0, 130 after a signal, or else that of the process that failed first.

    Args:
        module: joins the others with ``components.training.distributed.joined``.
        arguments: of every process.
        num_processes: on this machine.
        max_restarts: how often all are started again after one has crashed.
    """
    threads = max(1, machine.num_cpus() // num_processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", _SHUTDOWN_SECONDS)
    os.environ[OWN_STORE_VARIABLE] = "1"
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=max_restarts,
    )
    try:
        elastic_launch(config, sys.executable)("-u", "-m", module, *arguments)
    except SignalException:
        return EXIT_INTERRUPTED
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            print(f"{module}: a process was killed by {name}", file=sys.stderr, flush=True)
            return 1
        return failure.exitcode
    return 0


_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> None:
    """Have the system send this process SIGTERM once its parent has exited; on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
