"""A Dask worker that runs stages in the clone it is started in."""

import asyncio
import logging
from pathlib import Path

from distributed import Worker

from components.core.errors import InputError
from components.core.machine import num_cpus
from components.core.process import ENDING
from pipelines.cluster.clone import Clone
from pipelines.cluster.commit import commit_of
from pipelines.cluster.placement import CPU, GPU, MEMORY
from pipelines.cluster.remote import require_remote
from pipelines.gpus import visible_gpus
from pipelines.preparation import stages_at_a_time
from pipelines.workspace import end_leftovers, run_lock

_SCHEDULER_SECONDS = 60.0  # a scheduler may be started a little later than its workers


def serve(root: Path, scheduler: str, name: str) -> bool:
    """Work for ``scheduler`` until an ``ENDING`` signal; returns False if the scheduler went away before.

    Raises:
        InputError: the clone is not fit for it, or the scheduler does not answer or refuses.
    """
    logging.getLogger("distributed").setLevel(logging.WARNING)
    commit = commit_of(root)
    remote = require_remote(root)
    with run_lock(root):
        for stage in end_leftovers(root):
            print(f"Ended {stage}, left over from a worker that died.", flush=True)
        print(f"{name}: commit {commit[:12]}, DVC remote {remote}, scheduler {scheduler}", flush=True)
        return asyncio.run(_serve(root, scheduler, name))


def machine_resources() -> dict[str, float]:
    """What the stages at work on this machine share, in the words of their ``meta``."""
    return {GPU: len(visible_gpus()), CPU: num_cpus(), MEMORY: 1}


async def _serve(root: Path, scheduler: str, name: str) -> bool:
    asked = asyncio.Event()
    for number in ENDING:
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    # Stages are processes of their own, whose memory Dask shall not limit.
    try:
        worker = Worker(
            scheduler,
            name=name,
            nthreads=stages_at_a_time(),
            resources=machine_resources(),
            memory_limit=0,
            death_timeout=_SCHEDULER_SECONDS,
            plugins=(Clone(root),),
            dashboard=False,
        )
        await worker
    except (OSError, TimeoutError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{scheduler}: no Dask scheduler takes this worker: {error or 'no answer'}"
        ) from error
    print("Waiting for stages; Ctrl-C stops this worker.", flush=True)
    waits = [asyncio.ensure_future(wait) for wait in (asked.wait(), worker.finished())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    if asked.is_set():
        print("Stopping; a running stage goes to another worker.", flush=True)
    await worker.close()
    return asked.is_set()
