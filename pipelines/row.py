"""One row of a family, `virtex run` as a child process in the row's workspace; the comparison of all rows.

The comparison is made by a process of its own: pipelines draw nothing.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from components.core.files import write_json
from components.core.machine import num_cpus
from components.core.paths import OUTPUTS_DIR
from components.params.families import PRESETS, Family, FamilyRow
from components.tracking.parents import RUN_NAME_VARIABLE
from pipelines.graph import Plan
from pipelines.notifications import WEBHOOK_VARIABLE
from pipelines.preparation import stages_at_a_time
from pipelines.process import ChildEnd, Stop, run_child
from pipelines.record import forget_states, read_states
from pipelines.runners import CLUSTER_VARIABLE
from pipelines.workspace import (
    STAGE_VARIABLE,
    STATE_DIR,
    note_group,
    run_lock,
    stop_orphans,
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
                    on_start=lambda group: notes.append(note_group(self._folder, label, group)),
                    on_line=on_line,
                    cancelled=lambda: self._stop.requests,
                    stop_sequence=STOP_SEQUENCE,
                )
            finally:
                for note in notes:
                    note.unlink(missing_ok=True)
        if end.returncode not in (0, 1, 2, 130):  # it crashed, and could not stop what it had started
            with run_lock(ready.workspace):
                stop_orphans(ready.workspace)
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
        return "failed", "\n".join(printed[-15:]) or "exited without output"
    return "failed", "\n".join(printed[start:]).removeprefix(_ERROR)


class ComparisonError(RuntimeError):
    """The comparison could not be made; says why."""


def comparison_dir(family: str) -> Path:
    """Folder of a family's comparison, relative to the repository root."""
    return OUTPUTS_DIR / "ablations" / family


def base_title(family: Family, preset: str | None, overrides: Sequence[str]) -> str:
    """What the rows are laid over, for people."""
    base = preset or ("params.yaml" if family.name == PRESETS else "params.yaml as it is")
    return " with ".join([base, *([", ".join(overrides)] if overrides else [])])


def write_comparison(
    root: Path, family: Family, base: str, ready: Sequence[ReadyRow], outcomes: Mapping[str, RowOutcome]
) -> Path:
    """Write comparison.md, .json, .csv and .png from the rows' own files; returns their folder.

    Args:
        root: the repository.
        family: what was run.
        base: what the rows were laid over, for people.
        ready: its rows.
        outcomes: by row; a row without one was never started.

    Raises:
        ComparisonError: with the messages of the process.
    """
    folder = root / comparison_dir(family.name)
    request = {
        "family": family.name,
        "title": family.title,
        "paper_base": family.paper_base,
        "base": base,
        "rows": [
            {
                "name": row.row.name,
                "title": row.row.title,
                "workspace": str(row.workspace),
                "published": row.row.published and row.row.published.name,
                **_outcome(outcomes.get(row.row.name, RowOutcome(row.row.name, "not started"))),
            }
            for row in ready
        ],
    }
    write_json(folder / "rows.json", request)
    command = [sys.executable, "-m", "components.comparison", str(folder / "rows.json"), str(folder)]
    done = subprocess.run(  # in a session of its own: it takes seconds, Ctrl-C need not stop it
        command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True
    )
    if done.returncode:
        raise ComparisonError(f"the comparison could not be made: {(done.stderr or done.stdout).strip()}")
    return folder


def comparison_text(folder: Path) -> str:
    """The comparison as Markdown."""
    return (folder / "comparison.md").read_text(encoding="utf-8").rstrip()


def comparison_figures(folder: Path) -> dict[str, float]:
    """The figures of all rows by ``row/benchmark.metric``, for MLflow."""
    rows = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))["rows"]
    return {f"{row['name']}/{key}": value for row in rows for key, value in row["figures"].items()}


def _outcome(outcome: RowOutcome) -> dict[str, object]:
    return {key: value for key, value in asdict(outcome).items() if key != "row"}
