"""Figures as MLflow takes them: flat, with names it allows, sent in batches by one background thread.

MLflow's own asynchronous logging drops a batch whose retries are spent, and its sampler of system metrics
stops permanently when the server does not answer; here nothing is dropped while the process runs.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from components.core.errors import first_line
from components.core.logs import own_logger

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

_logger = own_logger(__name__)

_BATCH = 1000  # metrics; the most that MLflow takes in one call
_NAMED = 5  # refused ones that a warning names
_FLUSH_SECONDS = 3.0
_SYSTEM_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 60.0  # between attempts while the server is away
_LONGEST = 250  # characters of a key, MLflow's limit
_GROUPS = re.compile(r"[@=]")  # MLflow groups charts by what stands before a slash
_REFUSED = re.compile(r"[^\w\-. :/]")


def mlflow_name(name: str) -> str:
    """Return ``name`` as MLflow takes it in keys.

    So ``lmdb@train`` is ``lmdb/train``, and ``remote (tv)`` is ``remote _tv_``.

    MLflow takes letters, digits and ``_-. :/``, of paths only those that are written in the one normal way
    (no ``a//b``, ``/a``, ``a/``, ``a/.`` or ``../a``), and 250 characters.
    """
    parts = _REFUSED.sub("_", _GROUPS.sub("/", name)).split("/")
    legal = "/".join("_" * len(part) if part in (".", "..") else part for part in parts if part) or "_"
    if legal.startswith(".."):
        legal = "__" + legal[2:]
    return legal if len(legal) <= _LONGEST else _marked(legal, name)


def mlflow_names(names: Iterable[str], taken: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the MLflow name of each of ``names``, no two the same.

    Where several would share one, that which needs no change keeps it, else the first; the others end in
    a digest of their own, which is the same in each run.

    Args:
        names: as ours.
        taken: what earlier ones became, which stays.
    """
    found = dict(taken or {})
    owners = {legal: name for name, legal in found.items()}
    new = [name for name in dict.fromkeys(names) if name not in found]
    for name in sorted(new, key=lambda name: mlflow_name(name) != name):
        legal = mlflow_name(name)
        if owners.setdefault(legal, name) != name:
            legal = _marked(legal, name)
            owners[legal] = name
        found[name] = legal
    return found


def _marked(legal: str, name: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{legal[: _LONGEST - len(digest) - 1].rstrip('/')} {digest}"


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings and pydantic models as ``("section.key", value)``.

    Tuples become lists, as params.yaml has them: one form wherever a parameter is recorded.
    """
    for key, value in values.items():
        name = f"{prefix}{key}"
        if hasattr(value, "model_dump"):
            value = value.model_dump(mode="json")
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{name}.")
        else:
            yield name, list(value) if isinstance(value, tuple) else value


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the numeric leaves of ``values``; truth values, texts and lists are left out."""
    return {
        name: float(value)
        for name, value in flatten(values)
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


class MetricSender:
    """Sends to one run; a server that is away is tried again later and nothing is dropped meanwhile.

    Args:
        client: connected to the store of the run.
        run_id: of the run.
        lost_hint: ends the warning that is given once when sending fails.
        system_metrics: also sample processor, memory, disk, network and GPU load every ten seconds.
    """

    def __init__(
        self, client: MlflowClient, run_id: str, lost_hint: str, system_metrics: bool = True
    ) -> None:
        self._client = client
        self._run_id = run_id
        self._lost_hint = lost_hint
        self._waiting: deque[Metric] = deque()
        self._names: dict[str, str] = {}  # what MLflow calls them
        self._wake = threading.Event()
        self._stopping = False
        self._failures = 0
        self._system_step = 0
        self._system = _system_monitor(run_id) if system_metrics else None
        self._thread = threading.Thread(target=self._work, name="metric-sender", daemon=True)
        self._thread.start()

    def add(self, metrics: Mapping[str, float], step: int | None) -> None:
        """Queue ``metrics`` at iteration ``step``, time now."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        if any(name not in self._names for name in metrics):
            self._names = mlflow_names(metrics, self._names)
        self._waiting.extend(
            Metric(self._names[name], float(value), now, step or 0) for name, value in metrics.items()
        )
        if len(self._waiting) >= _BATCH:
            self._wake.set()

    def close(self) -> int:
        """Send the rest and end the thread; returns how many metrics could not be sent."""
        self._stopping = True
        self._wake.set()
        self._thread.join()
        return len(self._waiting)

    def _work(self) -> None:
        next_sample = 0.0
        next_attempt = 0.0
        while not self._stopping:
            now = time.monotonic()
            if now >= next_sample:
                self._sample_system()
                next_sample = now + _SYSTEM_SECONDS
            if now >= next_attempt and not self._send_all():
                pause = min(_FLUSH_SECONDS * 2 ** min(self._failures, 10), _LONGEST_PAUSE_SECONDS)
                next_attempt = time.monotonic() + pause
            self._wake.wait(_FLUSH_SECONDS)
            self._wake.clear()
        self._sample_system()
        self._send_all()

    def _send_all(self) -> bool:
        while self._waiting:
            batch = [self._waiting[i] for i in range(min(_BATCH, len(self._waiting)))]
            try:
                self._client.log_batch(self._run_id, metrics=batch)
            except Exception as error:
                if not is_refused(error):
                    self._note_failure(error)
                    return False
                if not self._send_singly(len(batch)):
                    return False
                continue
            for _ in batch:
                self._waiting.popleft()
        if self._failures:
            _logger.warning("The MLflow server answers again; all metrics so far are sent.")
        self._failures = 0
        return True

    def _send_singly(self, count: int) -> bool:
        """Send the next ``count`` one by one, say which are refused; whether the server answered them all."""
        refused: dict[str, str] = {}
        answered = True
        for _ in range(count):
            metric = self._waiting[0]
            try:
                self._client.log_batch(self._run_id, metrics=[metric])
            except Exception as error:
                if not is_refused(error):
                    self._note_failure(error)
                    answered = False
                    break
                refused[metric.key] = first_line(error)
            self._waiting.popleft()
        warn_refused("metrics", refused, self._lost_hint)
        return answered

    def _note_failure(self, error: Exception) -> None:
        if not self._failures:
            _logger.warning("Metrics cannot be sent to MLflow (%s). %s", first_line(error), self._lost_hint)
        self._failures += 1

    def _sample_system(self) -> None:
        if self._system is None:
            return
        try:
            self._system.collect_metrics()
            sample = {f"system/{key}": value for key, value in self._system.aggregate_metrics().items()}
            for monitor in self._system.monitors:
                monitor.clear_metrics()
        except Exception:
            _logger.debug("No system metrics from here on", exc_info=True)
            self._system = None
            return
        self.add(sample, self._system_step)
        self._system_step += 1


def _system_monitor(run_id: str) -> SystemMetricsMonitor | None:
    """Return MLflow's own samplers under its own names, driven by our thread instead of a second one."""
    try:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        return SystemMetricsMonitor(run_id)
    except Exception:
        _logger.debug("System metrics are not available", exc_info=True)
        return None


def is_refused(error: Exception) -> bool:
    """Tell whether the server answered that these values will never be taken (sending again is no use)."""
    return getattr(error, "error_code", None) in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")


def warn_refused(what: str, refused: Mapping[str, str], hint: str) -> None:
    """Warn of what was refused, a few names of many, with the first reason; of none nothing."""
    if not refused:
        return
    names = list(refused)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    shown = ", ".join(f"`{name}`" for name in names[:_NAMED])
    _logger.warning("MLflow refused %s %s%s: %s. %s", what, shown, more, refused[names[0]], hint)
