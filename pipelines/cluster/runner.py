"""The stages of a flow on the workers of a Dask cluster; stands in for the StageRunner of this machine."""

import contextlib
import queue
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distributed import Client, Future, KilledWorker, Security

from components.core.errors import InputError
from components.core.files import remove
from components.core.paths import PARAMS
from pipelines.cluster.job import (
    END_OF_LINES,
    Job,
    JobEnd,
    demands,
    inputs_of,
    outdated_outputs,
    small_outputs,
    sources_of,
)
from pipelines.cluster.requirements import (
    TransferError,
    commit_of,
    pull,
    push,
    require_remote,
    sent_variables,
    shared_tracking_uri,
)
from pipelines.cluster.security import security_for
from pipelines.cluster.worker import clone_fault, run_job, stop_run
from pipelines.dvc_files import read_entries
from pipelines.dvc_internals import put_entries
from pipelines.graph import Plan, Stage
from pipelines.process import Stop
from pipelines.stage import Log, Outcome, Outcomes

_CONNECT_SECONDS = 10
_POLL_SECONDS = 0.2
_LOOK_SECONDS = 5.0  # between two looks at whether a job's workers are still there
_WORKER_SECONDS = 120.0  # how long a stage waits for a worker when there is none left
_LAST_LINES_SECONDS = 2.0  # what a stage printed may arrive after its end


class Workers:
    """Knows which workers can work for a flow: their clone has its commit, a DVC remote, and reaches MLflow.

    Args:
        address: of the scheduler, such as ``tls://host:8786``.
        security: what to connect with.
        commit: of the flow's code.
        tracking_uri: of the flow's MLflow server; None if each worker has to know its own.

    Raises:
        InputError: no scheduler answers there.
    """

    def __init__(self, address: str, security: Security, commit: str, tracking_uri: str | None) -> None:
        self.address = address
        self.commit = commit
        self.tracking_uri = tracking_uri
        self._lock = threading.Lock()
        self._faults: dict[str, str | None] = {}
        try:
            self.client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False, security=security)
        except (OSError, TimeoutError, ValueError) as error:
            raise InputError(
                f"no Dask scheduler answers at {address}: start one with `virtex cluster "
                f"scheduler`, and `virtex worker {address}` on each machine, all with the same certificates"
            ) from error

    def present(self) -> dict[str, dict[str, Any]]:
        """Return the workers that are there now, by address, as the scheduler describes them.

        Raises:
            InputError: the scheduler does not come back; while Dask looks for it, there are no workers.
        """
        if self.client.status in ("closing", "closed"):
            raise InputError(
                f"the Dask scheduler at {self.address} is gone: start it, the workers and the run again"
            )
        if self.client.status != "running":
            return {}
        found: Mapping[str, Any] = self.client.scheduler_info(n_workers=-1)["workers"]
        return dict(found)

    def fit(self) -> dict[str, dict[str, float]]:
        """Return the resources of the workers that are there now and can work for this flow, by address."""
        with self._lock:
            present = self.present()
            self._ask([address for address in present if address not in self._faults])
            return {
                address: worker["resources"]
                for address, worker in present.items()
                if self._faults[address] is None
            }

    def require_all_fit(self) -> None:
        """Refuse, before a flow starts, what it cannot run on.

        Raises:
            InputError: there is no worker, or one that cannot work for this flow.
        """
        fit = self.fit()
        faults = {address: self._faults[address] for address in self.present() if self._faults.get(address)}
        if faults:
            lines = "\n".join(f"  {address}: {fault}" for address, fault in sorted(faults.items()))
            raise InputError(f"not all workers at {self.address} can serve this run:\n{lines}")
        if not fit:
            raise InputError(
                f"no workers at {self.address}: start `virtex worker {self.address}` in each machine's clone"
            )

    def _ask(self, addresses: list[str]) -> None:
        if not addresses:
            return
        answers = self.client.run(
            clone_fault, self.commit, self.tracking_uri, workers=addresses, on_error="return"
        )
        for address, answer in answers.items():
            self._faults[address] = str(answer) if isinstance(answer, Exception) else answer


class ClusterRunner(Outcomes):
    """Runs the stages of one plan on workers.

    Args:
        root: the repository.
        plan: of the run.
        workers: of the cluster.
        variables: added to the environment of each stage.
        force: run stages even if they are unchanged.
        stop: once set, running stages are stopped and no other one starts.

    Attributes:
        outcomes: of the stages dealt with so far, by name.
    """

    def __init__(
        self, root: Path, plan: Plan, workers: Workers, variables: dict[str, str], force: bool, stop: Stop
    ) -> None:
        super().__init__()
        self._root = root
        self._stages = {stage.name: stage for stage in plan.stages}
        self._workers = workers
        self._variables = variables
        self._force = force
        self._stop = stop
        self._run = uuid.uuid4().hex
        self._params = (root / PARAMS).read_text(encoding="utf-8")
        self._lock = threading.Lock()
        self._to_fetch: list[str] = []

    def run(self, stage: Stage, log: Log, absent: Sequence[Stage] = ()) -> Outcome:
        """Run one stage to its end, on whichever worker; again on another one if that one leaves."""
        try:
            end = self._until_it_ends(stage, log, absent)
        except (InputError, OSError, KilledWorker) as error:
            end = JobEnd(Outcome(stage.name, "failed", message=_why(stage, error)))
        if end.locked is not None:
            self._record(stage, end)
        self.outcomes[stage.name] = end.outcome  # the worker's seconds: waiting for one is no work
        return self.outcomes[stage.name]

    def fetch(self) -> None:
        """Bring home what people look at: metrics, plots, the report, all outputs but large ones.

        Raises:
            TransferError: the remote does not give them.
        """
        if self._to_fetch:
            pull(self._root, self._to_fetch, lambda: False)

    def _until_it_ends(self, stage: Stage, log: Log, absent: Sequence[Stage]) -> JobEnd:
        without = 0.0
        while not self._stop.is_set():
            fit = self._workers.fit()
            if fit:
                without = 0.0
                end = self._on_one_of(fit, self._job(stage, absent), log)
                if end:
                    return end
                log(f"{stage.name}: lost its worker, or Dask's scheduler; it has to start again")
            elif without >= _WORKER_SECONDS:
                raise InputError(f"no worker is left at {self._workers.address}: `virtex worker` starts one")
            without += _LOOK_SECONDS
            self._stop.wait(1.0 if fit else _LOOK_SECONDS)
        return JobEnd(Outcome(stage.name, "not started", message="the run was stopped"))

    def _on_one_of(self, fit: dict[str, dict[str, float]], job: Job, log: Log) -> JobEnd | None:
        """Hand the stage to Dask; None if its workers, the one that had it, or the scheduler have left."""
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        client = self._workers.client
        client.subscribe_topic(job.topic, lambda event: lines.put(event[1]))
        try:
            future = client.submit(
                run_job,
                job,
                key=f"{job.stage.name}-{uuid.uuid4().hex}",
                workers=list(fit),
                resources=demands(job.stage.meta, fit.values()),
                pure=False,
            )
            if not self._follow(future, fit, lines, log) or future.status in ("cancelled", "lost"):
                return None
            end: JobEnd = future.result()
            _drain(lines, log)
        finally:
            client.unsubscribe_topic(job.topic)
        withdrawn = end.outcome.state in ("stopped", "not started") and not self._stop.is_set()
        return None if withdrawn else end

    def _follow(
        self, future: "Future[JobEnd]", workers: Collection[str], lines: "queue.SimpleQueue[str]", log: Log
    ) -> bool:
        """Hand on the lines until the job has ended; False if it cannot end, or need not start."""
        is_running, looked_at, asked = False, time.monotonic(), 0
        while not future.done():
            with contextlib.suppress(queue.Empty):
                line = lines.get(timeout=_POLL_SECONDS)
                if line != END_OF_LINES:
                    is_running = True
                    log(line)
            if self._stop.is_set() and not is_running:
                future.cancel()
                return False
            if asked < self._stop.requests:
                asked = self._stop.requests
                self._workers.client.run(stop_run, self._run, asked, on_error="ignore")
            if time.monotonic() - looked_at >= _LOOK_SECONDS:
                looked_at = time.monotonic()
                if not self._workers.present().keys() & set(workers):
                    future.cancel()
                    return False
        return True

    def _job(self, stage: Stage, absent: Sequence[Stage]) -> Job:
        sources = [source for source in sources_of(stage, self._stages.values()) if source not in absent]
        return Job(
            run=self._run,
            stage=stage,
            inputs=inputs_of(stage, sources),
            commit=self._workers.commit,
            params=self._params,
            locked=read_entries(self._root, {stage.name, *(source.name for source in sources)}),
            variables=self._variables,
            force=self._force,
            absent=tuple(absent),
        )

    def _record(self, stage: Stage, end: JobEnd) -> None:
        """Note in dvc.lock what a worker made; what lies here of an earlier make goes."""
        assert end.locked is not None
        with self._lock:
            before = read_entries(self._root, {stage.name}).get(stage.name, {})
            for path in outdated_outputs(self._root, before, end.locked):
                remove(path)
            put_entries(self._root, {stage.name: end.locked}, {stage.name})
            self._to_fetch += small_outputs(end.locked)


@contextlib.contextmanager
def cluster_runner(
    address: str,
    root: Path,
    plan: Plan,
    unchanged: Collection[str],
    variables: dict[str, str],
    force: bool,
    stop: Stop,
    log: Log,
) -> Iterator[ClusterRunner]:
    """Give a runner for the workers of the scheduler at ``address``; at its end, results are brought home.

    Raises:
        InputError: the cluster, this clone, its DVC remote or MLflow are not fit for it.
    """
    with fit_workers(address, root) as workers:
        log(f"{len(workers.fit())} workers at {address}")
        _push_what_is_here(root, plan, unchanged, stop, log)
        sent = variables | sent_variables(workers.tracking_uri)
        runner = ClusterRunner(root, plan, workers, sent, force, stop)
        try:
            yield runner
        finally:
            runner.fetch()


@contextlib.contextmanager
def fit_workers(address: str, root: Path) -> Iterator[Workers]:
    """Give a connection to the cluster, whose workers can all work for this clone.

    Raises:
        InputError: one cannot, or this clone is not fit for it.
    """
    security = security_for(address, root)
    commit, uri = commit_of(root), shared_tracking_uri()
    require_remote(root)
    workers = Workers(address, security, commit, uri)
    try:
        workers.require_all_fit()
        yield workers
    finally:
        workers.client.close()


def _push_what_is_here(root: Path, plan: Plan, unchanged: Collection[str], stop: Stop, log: Log) -> None:
    """Push the outputs of unchanged stages that others read: earlier runs may have left them here only."""
    kept = [stage for stage in plan.stages if stage.name in unchanged]
    to_run = [stage for stage in plan.stages if stage.name not in unchanged]
    read = {path for stage in to_run for path in inputs_of(stage, sources_of(stage, kept))}
    if not read:
        return
    log(f"To the DVC remote, where it lacks them: {', '.join(sorted(read))}")
    try:
        push(root, sorted(read), lambda: stop.requests)
    except TransferError as error:
        raise InputError(str(error)) from error


def _why(stage: Stage, error: Exception) -> str:
    if isinstance(error, KilledWorker):
        return (
            f"{stage.name}: {error.allowed_failures + 1} workers crashed while they ran it, the last was "
            f"{error.last_worker.name}; the system's log there may say why (memory?)"
        )
    return f"{stage.name}: {error}"


def _drain(lines: "queue.SimpleQueue[str]", log: Log) -> None:
    with contextlib.suppress(queue.Empty):
        while (line := lines.get(timeout=_LAST_LINES_SECONDS)) != END_OF_LINES:
            log(line)
