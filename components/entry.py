"""How every stage starts: read its sections, open its record, hold its inputs against DVC's cache.

DVC trusts what it has linked without reading it. So a file that was damaged since (written to by root,
emptied by a power cut, a flipped bit) would be trained on, and its results be kept as good ones. Mistakes
become clear messages.
"""

import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from operator import contains
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from components.core import machine, paths
from components.core.dvc_cache import cache_folder, damaged_links, largest_checked, set_link_aside
from components.core.errors import (
    EXIT_INPUT_ERROR,
    EXIT_INTERRUPTED,
    EXIT_TEMPORARY,
    InputError,
    TemporaryError,
    machine_message,
)
from components.core.foreign_text import said
from components.core.process import handle_ending
from components.core.stage_lock import stage_lock
from components.params import Section, read_section
from components.params.reading import section_name
from components.params.yaml_files import load_yaml
from components.tracking import StageRun, stage_run

if TYPE_CHECKING:
    from components.training.distributed import Processes

GRAPH = Path("dvc.yaml")
_MADE = (paths.DATASETS_DIR.parent, paths.OUTPUTS_DIR)
_SHOWN = 3  # files in a message; all are moved
_TEMPLATE = re.compile(r"\$\{[^}]+\}")
_HELD_BACK_SECONDS = 10.0


def run_stage(
    stage: str,
    sections: Sequence[type[Section]] | Mapping[str, type[Section]],
    main: Callable[..., None],
    *items: Sequence[str] | Callable[[], Sequence[str]],
    in_several_processes: bool = False,
    is_recorded: bool = True,
) -> None:
    """Run ``main(run, *sections)`` as the process of a DVC stage, and exit with 0, 1, 2, 75 or 130.

    Args:
        stage: the stage's name in dvc.yaml, without the matrix item.
        sections: the sections of params.yaml that dvc.yaml lists for the stage, in ``main``'s order; or the
            one of each task, for a stage whose first argument is a task.
        main: the stage; gets a ``StageRun`` and one typed section for each of ``sections``.
        items: for each command-line argument of a stage with items, what it may name, or what gives that.
        in_several_processes: whether ``main`` can run in as many processes as the machine has GPUs. They
            are started here, unless ``torchrun`` has done so; the first one opens the record.
        is_recorded: whether the stage has an MLflow run.
    """
    handle_ending(_interrupt)
    about = (sys.modules[main.__module__].__doc__ or "").partition("\n")[0].replace("``", "`")
    try:
        item = _item(stage, items, sys.argv[1:])
        used = (sections[sys.argv[1]],) if isinstance(sections, Mapping) else sections
        values = [read_section(section) for section in used]
        record: dict[str, Any] = {section_name(type(value)): value.model_dump() for value in values}
        if in_several_processes and not machine.is_launched() and machine.num_processes() > 1:
            from components.training.distributed import launch  # torch is not for every stage

            module = f"components.stages.{stage}"
            with stage_lock(stage, item):
                sys.exit(launch(module, sys.argv[1:], machine.num_processes(), machine.max_restarts()))
        with (
            stage_lock(stage, item) as waited,
            _others(in_several_processes) as processes,
            _run(stage, item, record if is_recorded else None, waited, about) as run,
        ):
            if machine.is_first_process():
                require_sound_inputs(stage, sys.argv[1:])
            if processes:
                processes.wait()  # for the first one's record, so that all meet their mistakes together
            main(run, *values)
    except InputError as error:
        _fail(stage, str(error), EXIT_TEMPORARY if isinstance(error, TemporaryError) else EXIT_INPUT_ERROR)
    except KeyboardInterrupt:
        _fail(stage, "interrupted; what was finished is kept, start it again to go on", EXIT_INTERRUPTED)
    except Exception as error:
        if message := machine_message(error):
            _fail(stage, message, EXIT_INPUT_ERROR)
        raise


def _others(in_several_processes: bool) -> "AbstractContextManager[Processes | None]":
    if not in_several_processes:
        return nullcontext()
    from components.training.distributed import joined

    return joined()


def _run(
    stage: str, item: str | None, record: dict[str, Any] | None, waited: float, about: str
) -> AbstractContextManager[StageRun]:
    """Return the record of the stage; processes but the first have none, and write nothing."""
    if record is not None and machine.is_first_process():
        return stage_run(stage, item, record, waited, about)
    return nullcontext(StageRun(stage, item, paths.stage_dir(stage, item)))


def _item(
    stage: str, items: Sequence[Sequence[str] | Callable[[], Sequence[str]]], arguments: Sequence[str]
) -> str | None:
    """Return DVC's name of the item, its parts joined by hyphens; None for a stage without."""
    known = [found() if callable(found) else found for found in items]
    if len(arguments) == len(known) and all(map(contains, known, arguments)):
        return "-".join(arguments) or None
    given = " ".join(arguments)
    if not known:
        raise InputError(f"{stage} takes no arguments, got {given}")
    expected = " and one of ".join(", ".join(names) or "(none yet)" for names in known)
    raise InputError(f"{stage} takes one of {expected}, got {given or 'nothing'}")


def _interrupt(signum: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt(f"signal {signum}")


def _fail(stage: str, message: str, code: int) -> NoReturn:
    """Say why and exit. Processes but the first let it speak: most mistakes are everybody's.

    ``torchrun`` ends those that wait as soon as the first one is gone.
    """
    if not machine.is_first_process():
        if code == EXIT_INTERRUPTED:
            sys.exit(code)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(_HELD_BACK_SECONDS)
    print(f"{stage}: error: {said(message)}", file=sys.stderr, flush=True)
    sys.exit(code)


def require_sound_inputs(stage: str, arguments: Sequence[str]) -> None:
    """Read what dvc.yaml names as the inputs of a stage, as far as stages of ours made it.

    MD5 takes two seconds for a gigabyte, if the disk is as fast. ``VIRTEX_CHECK_OUTPUTS`` limits it.

    Raises:
        InputError: a file is damaged. The cache's file is moved aside, so that the next start makes it anew.
    """
    if not GRAPH.is_file():  # started by hand, elsewhere
        return
    cache = cache_folder()
    damaged = list(damaged_links(cache, _files(stage, arguments), largest_checked()))
    if damaged:
        found = "; ".join([_moved(cache, path) for path in damaged][:_SHOWN])
        more = f"; and {len(damaged) - _SHOWN} more" if len(damaged) > _SHOWN else ""
        raise InputError(f"{found}{more}. Start again: the stage that makes it runs first")


def _moved(cache: Path, path: Path) -> str:
    size = path.stat().st_size
    aside = set_link_aside(cache, path)
    moved = f", DVC's copy is moved to {aside}" if aside else ""
    return f"{path}: damaged: not what DVC has recorded ({size:,} bytes){moved}"


def _files(stage: str, arguments: Sequence[str]) -> Iterator[Path]:
    for place in _places(stage, arguments):
        if place.is_dir():
            yield from (path for path in sorted(place.rglob("*")) if path.is_file())
        elif place.is_file():
            yield place


def _places(stage: str, arguments: Sequence[str]) -> list[Path]:
    """Return the dependencies below ``data/`` and ``outputs/``, with the arguments in their templates."""
    entry = (load_yaml(GRAPH).get("stages") or {}).get(stage) or {}
    entry = entry.get("do", entry)
    values = dict(zip(_TEMPLATE.findall(str(entry.get("cmd", ""))), arguments, strict=False))
    places = [
        Path(_TEMPLATE.sub(lambda found: values.get(found[0], "*"), str(dep)))
        for dep in entry.get("deps", ())
    ]
    return [place for place in places if any(map(place.is_relative_to, _MADE))]
