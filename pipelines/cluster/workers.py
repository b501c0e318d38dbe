"""The workers of a Dask scheduler, as a flow sees them."""

import threading
from collections.abc import Mapping
from typing import Any

from distributed import Client, Security, Worker

from components.core.errors import InputError
from pipelines.cluster.job import Job, JobEnd
from pipelines.cluster.worker import Clone

_CONNECT_SECONDS = 10


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


async def clone_fault(commit: str, tracking_uri: str | None, dask_worker: Worker) -> str | None:
    """Return, at a worker, why it cannot work for a flow."""
    import asyncio

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
    from distributed import get_worker
    from distributed.worker import thread_state  # type: ignore[attr-defined]  # a name of its own

    clone = get_worker().plugins[Clone.name]
    assert isinstance(clone, Clone)
    return clone.run(job, thread_state.key)
