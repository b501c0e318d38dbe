"""A served deployment: runs asked for on Prefect's page, or with its command, happen in this workspace."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from prefect.runner import Runner
from prefect.types.entrypoint import EntrypointType

from components.core.process import handle_ending
from pipelines.run import virtex
from pipelines.workspace import STATE_DIR, file_lock

DESCRIPTION = """Runs the pipeline in `{root}`, as `virtex run` does there: the same stages, cache and MLflow
record. Parameters are those of `virtex run`: `preset` and `set` (`section.key=value`) are written into
params.yaml and stay in force; `targets` are stages, none means all; `force` runs unchanged stages too."""
_LOOK_SECONDS = 1.0
_PAUSE_SECONDS = 10.0


class _Runner(Runner):
    """Prefect's; a signal only says that somebody asked it to stop. Its own handler leaves a run behind."""

    asked_to_stop = False

    def handle_sigterm(self, *_: object) -> None:
        if not self.asked_to_stop:
            with contextlib.suppress(OSError):  # of a terminal or a pipe that is gone
                print("\nStopping: a run at work ends first, mostly in seconds.", flush=True)
        self.asked_to_stop = True

    async def _pause_schedules(self) -> None:
        """Pause them, unless the server does not answer: Prefect would ask it for minutes."""
        try:
            await asyncio.wait_for(super()._pause_schedules(), _PAUSE_SECONDS)
        except Exception:
            print("Prefect's server does not answer: it is not told that schedules pause.", flush=True)


def serve(root: Path, name: str, on_start: Callable[[], object], is_over: Callable[[], bool]) -> None:
    """Register the deployment ``virtex/name`` and carry out its runs, one at a time, until a signal comes.

    Args:
        root: the repository, which is the working directory.
        name: of the deployment.
        on_start: called once runs can be asked for.
        is_over: asked now and then whether to stop all the same.

    Raises:
        InputError: if this workspace is served already.
    """
    taken = f"another `virtex serve` is at work in this workspace ({root})"
    with file_lock(root / STATE_DIR / "serve.lock", lambda _: taken):
        asyncio.run(_serve(root, name, on_start, is_over))


async def _serve(root: Path, name: str, on_start: Callable[[], object], is_over: Callable[[], bool]) -> None:
    runner = _Runner(name=name, limit=1)  # a workspace has room for one run; others wait for it
    await runner.aadd_flow(
        virtex,
        name=name,
        description=DESCRIPTION.format(root=root),
        tags=["virtex"],
        paused=False,  # which its schedules are since the last one has stopped
        enforce_parameter_schema=True,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    handle_ending(runner.handle_sigterm)
    work = asyncio.create_task(runner.start())
    on_start()
    while not (work.done() or runner.asked_to_stop or is_over()):
        await asyncio.wait([work], timeout=_LOOK_SECONDS)
    if runner.started:
        await runner.astop()
    else:
        work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
