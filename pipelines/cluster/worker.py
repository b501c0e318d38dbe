"""A Dask worker that runs stages in the clone it is started in, one job of a configuration beside another."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from distributed import Security, Worker, WorkerPlugin, get_worker

from components.core.errors import InputError
from components.core.files import write_text
from components.core.machine import LOOPBACK, num_cpus
from components.core.paths import OUTPUTS_DIR, PARAMS
from components.core.process import ENDING
from components.tracking.pipeline_run import GOOD_STATES
from pipelines.cluster.job import CPU, END_OF_LINES, GPU, MEMORY, Job, JobEnd
from pipelines.cluster.requirements import (
    TransferError,
    commit_of,
    pull,
    push,
    require_commit,
    require_remote,
    require_tracking,
    tracking_variables,
)
from pipelines.cluster.security import HTTP_ADDRESS, is_loopback, security_for
from pipelines.dvc_files import read_entries
from pipelines.dvc_internals import put_entries
from pipelines.preparation import stages_at_a_time
from pipelines.process import Stop
from pipelines.resources import visible_gpus
from pipelines.stage import Log, Outcome, StageRunner
from pipelines.workspace import run_lock, stop_orphans

_POLL_SECONDS = 0.5
_SCHEDULER_SECONDS = 60.0  # a scheduler may be started a little later than its workers


class Clone(WorkerPlugin):
    """The clone of one Dask worker, which finds it among its plugins by ``name``.

    Args:
        root: the repository.
    """

    name = "virtex-clone"

    def __init__(self, root: Path) -> None:
        self._root = root
        self._worker: Worker | None = None
        self._changed = threading.Condition()
        self._jobs: dict[str, tuple[Job, Stop]] = {}  # by Dask's key
        self._stopped_runs: set[str] = set()
        self._closing = False
        self._params: str | None = None  # the text that the jobs at work go by
        self._at_work = 0

    def setup(self, worker: Worker) -> None:
        self._worker = worker

    async def teardown(self, worker: Worker) -> None:
        """Stop what runs here, and wait for its end: the scheduler gives it to another worker."""
        self._closing = True
        self._stop_jobs(lambda _: True)
        while self._jobs:
            await asyncio.sleep(_POLL_SECONDS)

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        """Stop a job that is released while it runs: nobody waits for it, its flow has crashed."""
        if finish == "released" and key in self._jobs:
            self._jobs[key][1].set()

    def stop_run(self, run: str, requests: int) -> None:
        """Stop the jobs of a flow's run, those that are still to come too; ``requests`` as in ``Stop``."""
        self._stopped_runs.add(run)
        self._stop_jobs(lambda job: job.run == run, requests)

    def fault(self, commit: str, tracking_uri: str | None) -> str | None:
        """Return why this clone cannot work for a flow, in words for people; None if it can."""
        try:
            require_commit(self._root, commit)
            require_remote(self._root)
            require_tracking(tracking_uri)
        except InputError as error:
            return str(error)
        return None

    def run(self, job: Job, key: str) -> JobEnd:
        """Run a job to its end, in a thread of the worker."""
        assert self._worker is not None
        worker, stop = self._worker, Stop()
        self._jobs[key] = job, stop
        if self._closing or job.run in self._stopped_runs:
            stop.set()

        def log(line: str) -> None:
            if line:
                worker.log_event(job.topic, line)

        started = time.monotonic()
        try:
            with self._configured(job, stop):
                return self._run(job, stop, log)
        except (InputError, TransferError, OSError) as error:
            message = f"{job.stage.name} on {worker.name}: {error}"
            return JobEnd(Outcome(job.stage.name, "failed", time.monotonic() - started, message))
        finally:
            worker.log_event(job.topic, END_OF_LINES)
            del self._jobs[key]

    def _run(self, job: Job, stop: Stop, log: Log) -> JobEnd:
        stage, started = job.stage, time.monotonic()
        if not stop.is_set():
            log(f"{stage.name} on {self._worker.name if self._worker else '?'}")
            put_entries(self._root, job.locked, {stage.name, *stage.upstream, *job.locked})
            self._remove_strangers(job)
            if job.inputs:
                pull(self._root, job.inputs, lambda: stop.requests)
        variables = job.variables | tracking_variables(job.variables)
        moving = time.monotonic() - started
        outcome = StageRunner(self._root, variables, job.force, stop, max_parallel=1).run(
            stage, log, job.absent
        )
        if outcome.state not in GOOD_STATES:
            return JobEnd(outcome)
        started = time.monotonic()
        push(self._root, stage.outs, lambda: stop.requests)
        if stop.is_set():
            return JobEnd(Outcome(stage.name, "stopped", outcome.seconds, f"{stage.name}: stopped"))
        seconds = moving + outcome.seconds + time.monotonic() - started  # without its waiting for a slot
        entry = read_entries(self._root, {stage.name})[stage.name]
        return JobEnd(Outcome(stage.name, outcome.state, seconds), entry)

    def _remove_strangers(self, job: Job) -> None:
        """Drop outputs of other runs where a stage reads a folder with outputs of several stages."""
        for folder in (self._root / dep for dep in job.stage.deps if Path(dep).is_relative_to(OUTPUTS_DIR)):
            inputs = [self._root / path for path in job.inputs]
            if not any(path.is_relative_to(folder) and path != folder for path in inputs):
                continue
            for path in (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()):
                if not any(path.is_relative_to(wanted) for wanted in inputs):
                    path.unlink()

    @contextlib.contextmanager
    def _configured(self, job: Job, stop: Stop) -> Iterator[None]:
        """Make params.yaml the job's meanwhile; one with another waits until the others have ended."""
        with self._changed:
            while self._at_work and self._params != job.params and not stop.is_set():
                self._changed.wait(_POLL_SECONDS)
            if not stop.is_set():
                require_commit(self._root, job.commit)
            if not self._at_work:
                self._params = job.params
                path = self._root / PARAMS
                if not path.is_file() or path.read_text(encoding="utf-8") != job.params:
                    write_text(path, job.params)
            self._at_work += 1
        try:
            yield
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    def _stop_jobs(self, chosen: Callable[[Job], bool], requests: int = 1) -> None:
        for job, stop in list(self._jobs.values()):
            if chosen(job):
                stop.requests = requests
                stop.set()


async def clone_fault(commit: str, tracking_uri: str | None, dask_worker: Worker) -> str | None:
    """Return, at a worker, why it cannot work for a flow."""
    clone = dask_worker.plugins.get(Clone.name)
    if not isinstance(clone, Clone):
        return "is a Dask worker, but not one that `virtex worker` has started"
    fault = await asyncio.to_thread(clone.fault, commit, tracking_uri)
    return f"{dask_worker.name}: {fault}" if fault else None


def stop_run(run: str, requests: int, dask_worker: Worker) -> None:
    """Stop, at a worker, the jobs of a flow's run."""
    clone = dask_worker.plugins.get(Clone.name)
    if isinstance(clone, Clone):
        clone.stop_run(run, requests)


def run_job(job: Job) -> JobEnd:
    """Run a job at a worker, as a Dask task."""
    from distributed.worker import thread_state  # type: ignore[attr-defined]  # a name of its own

    clone = get_worker().plugins[Clone.name]
    assert isinstance(clone, Clone)
    return clone.run(job, thread_state.key)


def serve(root: Path, scheduler: str, name: str) -> bool:
    """Work for ``scheduler`` until an ``ENDING`` signal; returns False if the scheduler went away before.

    Raises:
        InputError: the clone is not fit for it, or the scheduler does not answer or refuses.
    """
    logging.getLogger("distributed").setLevel(logging.WARNING)
    security = security_for(scheduler, root)
    commit = commit_of(root)
    remote = require_remote(root)
    with run_lock(root):
        for stage in stop_orphans(root):
            print(f"Stopped orphaned stage {stage} of a crashed worker.", flush=True)
        print(f"{name}: commit {commit[:12]}, DVC remote {remote}, scheduler {scheduler}", flush=True)
        return asyncio.run(_serve(root, scheduler, security, name))


def machine_resources() -> dict[str, float]:
    """Return what the stages at work on this machine share, in the words of their ``meta``."""
    return {GPU: len(visible_gpus()), CPU: num_cpus(), MEMORY: 1}


async def _serve(root: Path, scheduler: str, security: Security, name: str) -> bool:
    asked = asyncio.Event()
    for number in ENDING:
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    # Stages are processes of their own, whose memory Dask shall not limit.
    try:
        worker = Worker(
            scheduler,
            name=name,
            security=security,
            protocol="tls" if scheduler.startswith("tls://") else None,
            host=LOOPBACK if is_loopback(scheduler) else None,
            dashboard_address=HTTP_ADDRESS,
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
