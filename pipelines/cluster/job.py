"""What travels between the flow and a worker."""

from dataclasses import dataclass, field
from typing import Any

from pipelines.graph import Stage
from pipelines.stage import Outcome

END_OF_LINES = ""  # no stage prints it: a line without text is never handed on


@dataclass(frozen=True, slots=True)
class Job:
    """One stage for a worker.

    Attributes:
        run: names the flow's run, for its requests to stop.
        stage: what to run.
        inputs: outputs of other stages that it reads, to be fetched from the DVC remote.
        commit: of the code.
        params: the text of params.yaml.
        locked: entries of dvc.lock by stage: of those whose outputs it reads, and its own if it has one.
        variables: for the environment of the stage.
        force: run it even if it is unchanged.
        absent: stages above it that may fail and have.
    """

    run: str
    stage: Stage
    inputs: tuple[str, ...]
    commit: str
    params: str
    locked: dict[str, Any]
    variables: dict[str, str] = field(default_factory=dict)
    force: bool = False
    absent: tuple[Stage, ...] = ()

    @property
    def topic(self) -> str:
        """Under which the worker sends what the stage prints."""
        return f"virtex/{self.run}/{self.stage.name}"


@dataclass(frozen=True, slots=True)
class JobEnd:
    """What became of it.

    Attributes:
        outcome: as of a stage that ran here.
        locked: the stage's new entry of dvc.lock, its outputs being in the DVC remote; None without results.
    """

    outcome: Outcome
    locked: dict[str, Any] | None = None
