"""One row of a family: `virtex run` as a child process in the row's workspace, saved as an experiment."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from components.core.errors import InputError
from components.core.logs import own_logger
from components.core.machine import num_cpus
from components.tracking.pipeline_run import GOOD_STATES, NOT_RUN, RUN_NAME_VARIABLE
from pipelines.experiments import FamilyRun, ReadyRow, save_experiment, workspace_dir
from pipelines.notifications import WEBHOOK_VARIABLE
from pipelines.preparation import stages_at_a_time
from pipelines.process import ChildEnd, Stop, run_child
from pipelines.record import forget_states, idle_states, read_states
from pipelines.runners import CLUSTER_VARIABLE
from pipelines.workspace import STAGE_VARIABLE, STATE_DIR, noted_group, run_lock, stop_orphans

LOG = STATE_DIR / "run.log"  # in a row's workspace: what its last run printed
# A run that is asked to stop may need the whole of its stage's own stop sequence, 150 seconds; a second
# request is for its stages.
STOP_SEQUENCE = (
    (signal.SIGINT, 170.0),
    (signal.SIGINT, 10.0),
    (signal.SIGINT, 10.0),
    (signal.SIGTERM, 10.0),
    (signal.SIGKILL, 10.0),
)
_ERROR = "virtex: error: "
_logger = own_logger(__name__)


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """What became of a row.

    Attributes:
        row: its name.
        state: ``ran``, ``unchanged``, ``failed``, ``stopped`` or ``not started``.
        seconds: wall-clock time.
        message: why it failed or was stopped.
        stages: what its run did with each stage.
    """

    row: str
    state: str
    seconds: float = 0.0
    message: str = ""
    stages: dict[str, str] = field(default_factory=dict)


class RowRunner:
    """Runs the rows of one family.

    Args:
        run: what is asked for; the machine's cores are divided among the rows at a time.
        variables: added to the environment of each row.
        stop: once set, running rows are stopped and no other one starts.

    Attributes:
        outcomes: of the rows dealt with so far, by name.
    """

    def __init__(self, run: FamilyRun, variables: Mapping[str, str], stop: Stop) -> None:
        self._run = run
        self._variables = variables
        self._stop = stop
        self._slots = threading.Semaphore(run.at_once)
        self.outcomes: dict[str, RowOutcome] = {}

    def skip(self, ready: ReadyRow) -> RowOutcome:
        """Note that a row needs nothing."""
        return self._note(ready, RowOutcome(ready.row.name, "unchanged", stages=idle_states(ready.plan)))

    def run(self, ready: ReadyRow, targets: Sequence[str], say: Callable[[str], object]) -> RowOutcome:
        """Run one row to its end; one that cannot even be started has failed."""
        name = ready.row.name
        with self._slots:
            if self._stop.is_set():
                return self._note(ready, RowOutcome(name, "not started", message="the family was stopped"))
            started = time.monotonic()
            try:
                state, message = self._start(ready, targets, say)
            except OSError as error:
                state, message = "failed", f"{name}: {error}"
            states = read_states(ready.workspace)
            return self._note(ready, RowOutcome(name, state, time.monotonic() - started, message, states))

    def _note(self, ready: ReadyRow, outcome: RowOutcome) -> RowOutcome:
        """Keep the outcome; a row that is up to date becomes an experiment, a failed one is in the table."""
        self.outcomes[outcome.row] = outcome
        if all(outcome.stages.get(stage.name) in GOOD_STATES for stage in ready.plan.stages):
            made = [stage for stage, state in outcome.stages.items() if state in {*GOOD_STATES} - {NOT_RUN}]
            try:
                reason = save_experiment(
                    self._run.root, ready, f"{self._run.family.name}-{outcome.row}", made
                )
            except (InputError, OSError) as error:
                reason = str(error)
            if reason:
                _logger.warning("%s is not in `dvc exp show`: %s", outcome.row, reason)
        return outcome

    def _start(
        self, ready: ReadyRow, targets: Sequence[str], say: Callable[[str], object]
    ) -> tuple[str, str]:
        label = f"{self._run.family.name}/{ready.row.name}"
        folder = self._run.root / workspace_dir(self._run.family.name)  # where its processes are noted
        command = [sys.executable, "-m", "pipelines.cli", "run", "--no-report", *targets]
        forget_states(ready.workspace)
        say(f"in {ready.workspace}, what it prints is also in {LOG} there")
        printed: list[str] = []
        log_file = (ready.workspace / LOG).open("w", encoding="utf-8")
        with log_file as log, noted_group(folder, label) as note:

            def on_line(line: str) -> None:
                printed.append(line)
                print(line, file=log, flush=True)
                say(line)

            end = run_child(
                command,
                environment=self._environment(label),
                folder=ready.workspace,
                on_start=note,
                on_line=on_line,
                cancelled=lambda: self._stop.requests,
                stop_sequence=STOP_SEQUENCE,
            )
        if end.returncode not in (0, 1, 2, 130):  # it crashed, and could not stop what it had started
            with run_lock(ready.workspace):
                stop_orphans(ready.workspace)
        return _judge(end, printed)

    def _environment(self, label: str) -> dict[str, str]:
        cores, stages = max(1, num_cpus() // self._run.at_once), stages_at_a_time()
        # Two processes with a thread per core each are far slower in bf16 (docs/performance-reasons.md).
        threads = {"OMP_NUM_THREADS": str(cores)} if self._run.at_once > 1 else {}
        return {
            **threads,
            **os.environ,
            "VIRTEX_NUM_WORKERS": str(cores),
            "VIRTEX_MAX_PARALLEL": str(max(1, stages // self._run.at_once)),
            **self._variables,
            "PYTHONUNBUFFERED": "1",
            RUN_NAME_VARIABLE: label,
            STAGE_VARIABLE: label,
            CLUSTER_VARIABLE: "",  # no other machine has the workspace's commit
            WEBHOOK_VARIABLE: "",  # one message, of the family
        }


def _judge(end: ChildEnd, printed: Sequence[str]) -> tuple[str, str]:
    if end.returncode == 0:
        return "ran", ""
    if end.stopped_by == "cancel" or end.returncode == 130:
        return "stopped", "stopped; what was finished is kept"
    start = next((i for i in reversed(range(len(printed))) if printed[i].startswith(_ERROR)), None)
    if start is None:
        return "failed", "\n".join(printed[-15:]) or "exited without output"
    return "failed", "\n".join(printed[start:]).removeprefix(_ERROR)
