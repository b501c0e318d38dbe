"""One row of a family: `virtex run` as a child process in the row's workspace."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from components.core.machine import num_cpus
from components.params.families import FamilyRow
from components.tracking.parents import RUN_NAME_VARIABLE
from pipelines.child import ChildEnd, run_child
from pipelines.graph import Plan
from pipelines.notifications import WEBHOOK_VARIABLE
from pipelines.outcomes import forget_states, read_states
from pipelines.preparation import stages_at_a_time
from pipelines.runners import CLUSTER_VARIABLE
from pipelines.stopping import Stop
from pipelines.workspace import (
    STAGE_VARIABLE,
    STATE_DIR,
    end_leftovers,
    remember_group,
    run_lock,
)

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
GOOD_ROWS = ("ran", "unchanged")
_ERROR = "virtex: error: "


@dataclass(frozen=True, slots=True)
class ReadyRow:
    """A row whose workspace is up to date and planned.

    Attributes:
        row: which.
        workspace: its folder.
        plan: of the stages asked for.
        notices: what was changed there, for people.
    """

    row: FamilyRow
    workspace: Path
    plan: Plan
    notices: tuple[str, ...] = ()


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


def unchanged(ready: ReadyRow) -> RowOutcome:
    """The outcome of a row that needs nothing."""
    states = dict.fromkeys((stage.name for stage in ready.plan.stages), "unchanged")
    return RowOutcome(ready.row.name, "unchanged", stages=states)


class RowRunner:
    """Runs the rows of one family.

    Args:
        folder: of the family's workspaces, where its processes are noted.
        family: its name.
        variables: added to the environment of each row.
        stop: once set, running rows are stopped and no other one starts.
        at_once: rows at a time; the machine's cores are divided among them.

    Attributes:
        outcomes: of the rows dealt with so far, by name.
    """

    def __init__(
        self, folder: Path, family: str, variables: dict[str, str], stop: Stop, at_once: int
    ) -> None:
        self._folder = folder
        self._family = family
        self._variables = variables
        self._stop = stop
        self._at_once = at_once
        self._slots = threading.Semaphore(at_once)
        self.outcomes: dict[str, RowOutcome] = {}

    def skip(self, ready: ReadyRow) -> RowOutcome:
        """Note that a row needs nothing."""
        self.outcomes[ready.row.name] = unchanged(ready)
        return self.outcomes[ready.row.name]

    def run(self, ready: ReadyRow, targets: Sequence[str], say: Callable[[str], object]) -> RowOutcome:
        """Run one row to its end; one that cannot even be started has failed."""
        name = ready.row.name
        with self._slots:
            if self._stop.is_set():
                self.outcomes[name] = RowOutcome(name, "not started", message="the family was stopped")
                return self.outcomes[name]
            started = time.monotonic()
            try:
                state, message = self._start(ready, targets, say)
            except OSError as error:
                state, message = "failed", f"{name}: {error}"
            states = read_states(ready.workspace)
            self.outcomes[name] = RowOutcome(name, state, time.monotonic() - started, message, states)
            return self.outcomes[name]

    def _start(
        self, ready: ReadyRow, targets: Sequence[str], say: Callable[[str], object]
    ) -> tuple[str, str]:
        label = f"{self._family}/{ready.row.name}"
        command = [sys.executable, "-m", "pipelines.cli", "run", "--no-report", *targets]
        forget_states(ready.workspace)
        say(f"in {ready.workspace}, what it prints is also in {LOG} there")
        printed: list[str] = []
        notes: list[Path] = []
        with (ready.workspace / LOG).open("w", encoding="utf-8") as log:

            def on_line(line: str) -> None:
                printed.append(line)
                print(line, file=log, flush=True)
                say(line)

            try:
                end = run_child(
                    command,
                    environment=self._environment(label),
                    folder=ready.workspace,
                    on_start=lambda group: notes.append(remember_group(self._folder, label, group)),
                    on_line=on_line,
                    cancelled=lambda: self._stop.requests,
                    stop_sequence=STOP_SEQUENCE,
                )
            finally:
                for note in notes:
                    note.unlink(missing_ok=True)
        if end.returncode not in (0, 1, 2, 130):  # it died, and could not stop what it had started
            with run_lock(ready.workspace):
                end_leftovers(ready.workspace)
        return _judge(end, printed)

    def _environment(self, label: str) -> dict[str, str]:
        cores, stages = num_cpus(), stages_at_a_time()
        return {
            **os.environ,
            "VIRTEX_NUM_WORKERS": str(max(1, cores // self._at_once)),
            "VIRTEX_MAX_PARALLEL": str(max(1, stages // self._at_once)),
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
        return "failed", "\n".join(printed[-15:]) or "it ended without a word"
    return "failed", "\n".join(printed[start:]).removeprefix(_ERROR)
