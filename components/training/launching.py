"""Starts a stage once more, in several processes on this machine, as ``torchrun --standalone`` does."""

import os
import signal
import sys
import uuid
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from components.core import machine
from components.core.errors import EXIT_INTERRUPTED
from components.training.distributed import OWN_STORE_VARIABLE

# Time to finish an iteration and write a checkpoint of some gigabytes before torch kills.
_SHUTDOWN_SECONDS = "120"


def launch(module: str, arguments: Sequence[str], num_processes: int, max_restarts: int) -> int:
    """Run ``python -m module arguments`` in ``num_processes`` processes; returns the exit code for this one.

    The code is 0, 130 after a signal, or else that of the process that failed first.

    Args:
        module: joins the others with ``components.training.distributed.joined``.
        arguments: of every process.
        num_processes: on this machine.
        max_restarts: how often all are started again after one has died.
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
