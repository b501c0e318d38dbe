"""One DVC stage: child process, lines to the log, what DVC did, retries, outputs checked and put back."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.core.dvc_cache import (
    cache_folder,
    damaged_objects,
    largest_checked,
    object_path,
    set_aside,
    with_members,
)
from components.core.errors import EXIT_INPUT_ERROR, InputError, machine_message
from components.core.files import remove
from components.core.redaction import redacted
from components.tracking.pipeline_run import GOOD_STATES, NOT_RUN
from pipelines.dvc_files import read_entries
from pipelines.dvc_internals import check_out
from pipelines.graph import Stage
from pipelines.output import StageOutput
from pipelines.process import ChildEnd, Stop, run_child
from pipelines.resources import Held, Turns
from pipelines.workspace import STAGE_VARIABLE, noted_group

Log = Callable[[str], None]
_RESOURCES_SECONDS = 0.1  # between two looks at what others hold


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a stage.

    Attributes:
        stage: its name.
        state: ``ran``, ``restored`` (from DVC's cache), ``unchanged``, ``not run`` (for want of data),
            ``failed``, ``stopped`` or ``not started``.
        seconds: wall-clock time of its attempts, without the waiting before and between them.
        message: why it failed or was stopped, in the stage's own words.
    """

    stage: str
    state: str
    seconds: float = 0.0
    message: str = ""


class Outcomes:
    """What has become of the stages of one run.

    Attributes:
        outcomes: of the stages dealt with so far, by name.
    """

    def __init__(self) -> None:
        self.outcomes: dict[str, Outcome] = {}

    def has_results(self, stage: Stage) -> bool:
        """Return whether the stage has come to a good end in this run, and left results."""
        state = self.outcomes[stage.name].state if stage.name in self.outcomes else None
        return state in GOOD_STATES and state != NOT_RUN

    def skip(self, stage: Stage) -> Outcome:
        """Note that a stage needs nothing."""
        return self._note(Outcome(stage.name, "unchanged"))

    def leave_out(self, stage: Stage, reason: str) -> Outcome:
        """Note that a stage is not run, and why; its outputs are not there."""
        return self._note(Outcome(stage.name, NOT_RUN, message=reason))

    def _note(self, outcome: Outcome) -> Outcome:
        self.outcomes[outcome.stage] = outcome
        return outcome


class StageRunner(Outcomes):
    """Runs stages of one workspace through DVC.

    Args:
        root: the repository.
        variables: added to the environment of each stage.
        force: run stages even if they are unchanged.
        stop: once set, running stages are stopped and no other one starts.
        max_parallel: stages at a time.
        pull: fetch missing outputs of unchanged stages from the DVC remote instead of making them again.
        stages: of the run, by which turns are taken.

    Attributes:
        outcomes: of the stages dealt with so far, by name.
    """

    def __init__(
        self,
        root: Path,
        variables: dict[str, str],
        force: bool,
        stop: Stop,
        max_parallel: int,
        pull: bool = False,
        stages: Sequence[Stage] = (),
    ) -> None:
        super().__init__()
        self._root = root
        self._variables = variables
        self._force = force
        self._stop = stop
        self._turns = Turns(stages, max_parallel)
        self._pull = pull

    def run(self, stage: Stage, log: Log, absent: Sequence[Stage] = ()) -> Outcome:
        """Run one stage to its end; a stage that cannot even be started, say on a full disk, has failed.

        Args:
            stage: to run, as often as its ``meta`` allows.
            log: called with each line.
            absent: stages above it that may fail and have: earlier results of theirs are out of its sight.
        """
        worked: list[float] = []
        try:
            with self._out_of_sight(absent, log):
                state, message = self._attempts(stage, log, worked)
        except (OSError, InputError) as error:
            state, message = "failed", f"{stage.name}: {machine_message(error) or error}"
        seconds = sum(worked)
        self.outcomes[stage.name] = Outcome(stage.name, state, seconds, message)
        return self.outcomes[stage.name]

    def _attempts(self, stage: Stage, log: Log, worked: list[float]) -> tuple[str, str]:
        """Return state and message; add each attempt's seconds to ``worked``.

        Prefect's own retries would not wake up when the run is stopped.
        """
        for number in range(1, stage.meta.retries + 2):
            state, message, may_pass = self._checked_attempt(stage, log, worked)
            if state in ("failed", "stopped"):
                self._put_back(stage, log)
            if state != "failed" or not may_pass or number > stage.meta.retries:
                break
            delay = stage.meta.retry_delay * 2 ** (number - 1)
            log(f"{stage.name} failed, attempt {number} of {stage.meta.retries + 1}; again in {delay:g} s")
            if self._stop.wait(delay):
                return "stopped", f"{stage.name}: stopped before another attempt; before that: {message}"
        return state, message

    def _checked_attempt(self, stage: Stage, log: Log, worked: list[float]) -> tuple[str, str, bool]:
        """Attempt once, and once more if what DVC has put there comes from damaged files of its cache."""
        state, message, may_pass = self._attempt(stage, log, worked)
        for is_last in (False, True):
            damage = repair_outputs(self._root, stage.name) if state in ("ran", "restored") else []
            for line in damage:
                log(line)
            if not damage:
                break
            if is_last:
                return "failed", f"{stage.name}: {damage[0]}; and again: check the disk", False
            log(f"{stage.name} runs again")
            state, message, may_pass = self._attempt(stage, log, worked)
        return state, message, may_pass

    def _attempt(self, stage: Stage, log: Log, worked: list[float]) -> tuple[str, str, bool]:
        """Return state, message, and whether a failure may pass."""
        waiting = False

        def keep_waiting() -> bool:
            nonlocal waiting
            if not waiting and self._turns.lacks_resources(stage):
                log(f"{stage.name} waits for {'memory or ' * stage.meta.memory_heavy}a GPU to be free")
                waiting = True
            return not self._stop.wait(_RESOURCES_SECONDS)

        with self._turns.turn(stage, keep_waiting) as resources:
            if self._stop.is_set() or not resources:
                return "not started", "the run was stopped", False
            started, output = time.monotonic(), StageOutput(stage.name)
            command = ["--wait-for-lock", "repro", "--single-item", stage.name]
            if self._force:
                command.append("--force")
            elif self._pull:
                command.append("--pull")

            def on_line(line: str) -> None:
                if output.feed(line):
                    log(redacted(line))

            try:
                end = self._dvc(command, stage, on_line, resources)
            finally:
                worked.append(max(0.0, time.monotonic() - started - output.waited_seconds))
            return _judge(stage, output, end)

    @contextlib.contextmanager
    def _out_of_sight(self, absent: Sequence[Stage], log: Log) -> Iterator[None]:
        """Leave ``absent`` no outputs within it, but the folders that these would be in."""
        for out in (self._root / out for stage in absent for out in stage.outs):
            remove(out)
            out.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield
        finally:
            for stage in absent:
                if stage.name not in self.outcomes or self.outcomes[stage.name].state != NOT_RUN:
                    self._put_back(stage, log)

    def _put_back(self, stage: Stage, log: Log) -> None:
        """Check out the outputs on record, which DVC removed before the run, and drop unrecorded ones."""
        with noted_group(self._root, stage.name) as note:
            note(os.getpgrp())  # should this process crash meanwhile
            try:
                check_out([stage.name], wait_for_lock=True)
            except (InputError, OSError) as error:
                log(f"The earlier outputs of {stage.name} could not all be put back: {error}")

    def _dvc(
        self, arguments: Sequence[str], stage: Stage, on_line: Callable[[str], object], resources: Held
    ) -> ChildEnd:
        interpreter = Path(sys.executable)
        environment = {
            **os.environ,
            **self._variables,
            "PATH": f"{interpreter.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PYTHONUNBUFFERED": "1",
            STAGE_VARIABLE: stage.name,
            **resources.variables,
        }
        with noted_group(self._root, stage.name) as note:
            return run_child(
                [str(interpreter), "-m", "pipelines.dvc_internals", *arguments],
                environment=environment,
                folder=self._root,
                on_start=note,
                on_line=on_line,
                cancelled=lambda: self._stop.requests,
                timeout_seconds=stage.meta.deadline,
                keep_open=resources.files,
            )


def _judge(stage: Stage, output: StageOutput, end: ChildEnd) -> tuple[str, str, bool]:
    if end.stopped_by == "deadline":
        reason = f"stopped at its deadline of {stage.meta.deadline:g} seconds (meta.deadline in dvc.yaml)"
        return "failed", f"{stage.name}: {reason}\n{output.error()}", False
    if end.returncode == 0:
        return output.state or "ran", "", False
    if end.stopped_by == "cancel":
        return "stopped", f"{stage.name}: stopped", False
    return "failed", output.error(), output.exit_status != EXIT_INPUT_ERROR


def repair_outputs(root: Path, stage: str) -> list[str]:
    """Move damaged files of DVC's cache aside that the stage's outputs are links to, and drop these.

    Reads each output once more, as fast as MD5 and the disk go; ``VIRTEX_CHECK_OUTPUTS=small`` leaves out
    files above 10 MB.

    Returns a line for each damaged file, none if all is well; then DVC runs the stage again when asked.
    """
    entry = read_entries(root, {stage}).get(stage, {})
    outs = {str(out["path"]): str(out.get("md5", "")) for out in entry.get("outs") or ()}
    cache, largest = cache_folder(root), largest_checked()
    lines: list[str] = []
    for path, name in outs.items():
        names = with_members(cache, [name]) if name else []
        for damaged in damaged_objects(cache, names, largest, flush=True):
            size = object_path(cache, damaged).stat().st_size
            aside = set_aside(cache, damaged)
            lines.append(f"{path}: damaged in DVC's cache ({damaged}, {size:,} bytes), moved to {aside}")
            remove(root / path)
    return lines
