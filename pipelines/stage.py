"""One DVC stage: child process, lines to the log, what DVC did, deadline, earlier outputs put back."""

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.child import ChildEnd, run_child
from pipelines.graph import Stage
from pipelines.output import StageOutput
from pipelines.workspace import STAGE_VARIABLE, remember_group

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a stage.

    Attributes:
        stage: its name.
        state: ``ran``, ``restored`` (from DVC's cache), ``unchanged``, ``failed``, ``stopped`` or
            ``not started``.
        seconds: wall-clock time.
        message: why it failed or was stopped, in the stage's own words.
    """

    stage: str
    state: str
    seconds: float = 0.0
    message: str = ""


class StageRunner:
    """Runs stages of one workspace through DVC.

    Args:
        root: the repository.
        variables: added to the environment of each stage.
        force: run stages even if they are unchanged.
        stop: once set, running stages are stopped and no other one starts.
        max_parallel: stages at a time.

    Attributes:
        outcomes: of the stages dealt with so far, by name.
    """

    def __init__(
        self, root: Path, variables: dict[str, str], force: bool, stop: threading.Event, max_parallel: int
    ) -> None:
        self._root = root
        self._variables = variables
        self._force = force
        self._stop = stop
        self._slots = threading.Semaphore(max_parallel)
        self.outcomes: dict[str, Outcome] = {}

    def skip(self, stage: Stage) -> Outcome:
        """Note that a stage needs nothing."""
        self.outcomes[stage.name] = Outcome(stage.name, "unchanged")
        return self.outcomes[stage.name]

    def run(self, stage: Stage, log: Log) -> Outcome:
        """Run one stage to its end; a stage that cannot even be started, say on a full disk, has failed."""
        try:
            outcome = self._run(stage, log)
        except OSError as error:
            outcome = Outcome(stage.name, "failed", message=f"{stage.name}: {error}")
        self.outcomes[stage.name] = outcome
        return outcome

    def _run(self, stage: Stage, log: Log) -> Outcome:
        with self._slots:
            if self._stop.is_set():
                return Outcome(stage.name, "not started", message="the run was stopped")
            started = time.monotonic()
            output = StageOutput(stage.name)
            command = ["--wait-for-lock", "repro", "--single-item", stage.name]
            if self._force:
                command.append("--force")

            def on_line(line: str) -> None:
                if output.feed(line):
                    log(line)

            end = self._dvc(command, stage, on_line, self._stop.is_set, stage.timeout_seconds)
            state, message = _judge(stage, output, end)
            if state in ("failed", "stopped"):
                self._put_back(stage, log)
            return Outcome(stage.name, state, time.monotonic() - started, message)

    def _put_back(self, stage: Stage, log: Log) -> None:
        """Check out the outputs on record, which DVC removed before the run, and drop unrecorded ones."""
        output = StageOutput(stage.name)
        command = ["--wait-for-lock", "checkout", "--quiet", "--force", stage.name]
        end = self._dvc(command, stage, output.feed, lambda: False)
        if end.returncode != 0:
            log(f"The earlier outputs of {stage.name} could not all be put back: {output.error()}")

    def _dvc(
        self,
        arguments: Sequence[str],
        stage: Stage,
        on_line: Callable[[str], object],
        cancelled: Callable[[], bool],
        timeout_seconds: float | None = None,
    ) -> ChildEnd:
        interpreter = Path(sys.executable)
        environment = {
            **os.environ,
            **self._variables,
            "PATH": f"{interpreter.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PYTHONUNBUFFERED": "1",
            STAGE_VARIABLE: stage.name,
        }
        notes: list[Path] = []
        try:
            return run_child(
                [str(interpreter), "-m", "dvc", *arguments],
                environment=environment,
                folder=self._root,
                on_start=lambda group: notes.append(remember_group(self._root, stage.name, group)),
                on_line=on_line,
                cancelled=cancelled,
                timeout_seconds=timeout_seconds,
            )
        finally:
            for note in notes:
                note.unlink(missing_ok=True)


def _judge(stage: Stage, output: StageOutput, end: ChildEnd) -> tuple[str, str]:
    if end.stopped_by == "deadline":
        return "failed", (
            f"{stage.name}: stopped at its deadline of {stage.timeout_seconds:g} seconds "
            f"(meta.timeout_seconds in dvc.yaml)\n{output.error()}"
        )
    if end.returncode == 0:
        return output.state or "ran", ""
    if end.stopped_by == "cancel":
        return "stopped", f"{stage.name}: stopped"
    return "failed", output.error()
