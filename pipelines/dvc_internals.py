"""All that is asked of DVC beyond its commands: its private interfaces, in this file only.

tests/pipelines/test_dvc_internals.py holds them against the release of DVC that constraints.txt names.

As a program this is ``dvc``, looking twenty times a second whether DVC's lock is free and saying how long it
was not: ``python -m pipelines.dvc_internals repro ...``. DVC itself looks every half second, which adds up
where many short stages run side by side.
"""

import logging
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from components.core.dvc_cache import cache_folder
from components.core.errors import InputError
from components.core.process import raise_interrupts
from components.core.stage_lock import say_waited
from components.tracking.metrics import flatten
from pipelines.dvc_files import LOCK_FILE, check_deep_files, check_files, read_entries
from pipelines.graph import SOURCES, Plan, Stage, base_name, changed_data, read_meta

_LOCK_TIMEOUT = 0.3  # seconds, six looks of a command that does not wait for ever
_NONE: Mapping[str, str] = MappingProxyType({})
_ABSENT = object()


@contextmanager
def _repository(root: Path, wait_for_lock: bool = False) -> Iterator[Any]:
    from dvc.config import ConfigError
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo
    from dvc.scm import SCMError

    check_deep_files(root)
    try:
        with Repo(str(root), _wait_for_lock=wait_for_lock) as repo:
            yield repo
    except NotDvcRepoError as error:
        raise InputError(f"{root} is not a DVC repository: run `dvc init` there") from error
    except SCMError as error:
        raise InputError(f"{error}: DVC needs one; get the project with `git clone`") from error
    except ConfigError as error:
        raise InputError(f".dvc/config: {_reason(error)}; `git checkout .dvc/config` restores it") from error
    except DvcException as error:
        check_files(root)
        raise InputError(f"dvc.yaml: {_reason(error)}") from error
    except RecursionError:
        check_files(root)
        raise


def _reason(error: BaseException) -> str:
    """Return DVC's message on one line, with the cause that it leaves out."""
    cause = f" ({error.__cause__})" if error.__cause__ and str(error.__cause__) not in str(error) else ""
    return " ".join(f"{error}{cause}".split())


def read_plan(
    targets: Sequence[str] = (), allow_missing: bool = False, reasons: Mapping[str, str] = _NONE
) -> Plan:
    """Plan the working directory's stages.

    Args:
        targets: names of stages (``lmdb@train``, or ``lmdb`` for every item, or ``detection@voc*``) to plan
            with all that they need; none plans every stage.
        allow_missing: outputs that are not here, those of runs on other machines, are no change.
        reasons: why stages are not to be run, by their names without the item.

    Raises:
        InputError: no DVC repository, a dvc.yaml that DVC refuses, an unknown target.
    """
    with _planned(targets) as (repo, graph, nodes):
        stages = tuple(_stage(node, graph, Path.cwd()) for node in nodes)
        not_run = {stage.name: why for stage in stages if (why := reasons.get(base_name(stage.name)))}
        return Plan(stages, _unchanged(repo, graph, nodes, allow_missing, not_run), not_run)


@contextmanager
def planned_stages(targets: Sequence[str] = ()) -> Iterator[list[tuple[Stage, Any]]]:
    """Give the same stages as ``read_plan``'s, each with DVC's own object, which is open until the end.

    Raises:
        InputError: as ``read_plan``.
    """
    with _planned(targets) as (_, graph, nodes):
        yield [(_stage(node, graph, Path.cwd()), node) for node in nodes]


@contextmanager
def _planned(targets: Sequence[str]) -> Iterator[tuple[Any, Any, list[Any]]]:
    with _repository(Path.cwd()) as repo:
        from dvc.dvcfile import PROJECT_FILE
        from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

        graph = get_active_graph(repo.index.graph)
        if not graph:
            raise InputError("dvc.yaml: no stages; `git checkout dvc.yaml` restores it")
        for target in targets:
            _check_target(repo, graph, target)
        nodes = plan_repro(graph, collect_stages(repo, targets or [PROJECT_FILE], glob=bool(targets)))
        yield repo, graph, [node for node in nodes if not node.is_data_source]


def _stage(node: Any, graph: Any, root: Path) -> Stage:
    return Stage(
        name=node.addressing,
        upstream=tuple(sorted(dep.addressing for dep in graph.successors(node) if not dep.is_data_source)),
        outs=tuple(_relative(out, root) for out in node.outs),
        params=tuple(key for dep in node.deps for key in getattr(dep, "params", ())),
        meta=read_meta(node.addressing, node.meta),
        deps=tuple(_relative(dep, root) for dep in node.deps if not getattr(dep, "params", None)),
    )


def _relative(output: Any, root: Path) -> str:
    return str(Path(output.fs_path).relative_to(root.resolve()))


def _unchanged(
    repo: Any, graph: Any, nodes: Sequence[Any], allow_missing: bool, not_run: Collection[str]
) -> frozenset[str]:
    """Return names of the unchanged stages. One that is not run is no change for those below it."""
    from dvc.lock import LockError

    found: set[str] = set()
    try:
        with repo.lock:
            for node in nodes:
                upstream = list(graph.successors(node))
                above = {dep.addressing for dep in upstream if not dep.is_data_source}
                is_on_record = all(out.hash_info for out in node.outs)  # DVC does not ask for it
                if node.always_changed and node.addressing == SOURCES and not changed_data():
                    node.always_changed = False
                if above <= {*found, *not_run} and is_on_record and not node.changed(allow_missing, upstream):
                    found.add(node.addressing)
    except LockError:  # another DVC command is at work: let each stage ask for itself
        return frozenset()
    return frozenset(found)


def _check_target(repo: Any, graph: Any, target: str) -> None:
    from dvc.exceptions import DvcException

    reason: Exception | None = None
    try:
        if list(repo.stage.collect(target, glob=True)):
            return
    except DvcException as error:
        reason = error
    names = ", ".join(sorted(node.addressing for node in graph if not node.is_data_source))
    raise InputError(f"unknown target `{target}`: expected a stage of dvc.yaml ({names})") from reason


def share_cache(owner: Path, workspace: Path) -> None:
    """Let the DVC repository at ``workspace`` keep its outputs in the cache of the one at ``owner``.

    The setting goes into DVC's local configuration, which Git ignores.
    """
    folder = str(cache_folder(owner).resolve())
    with _repository(workspace) as repo, repo.config.edit("local") as settings:
        settings["cache"]["dir"] = folder


def default_remote(root: Path) -> str | None:
    """Name of the remote that ``dvc push`` uses there."""
    with _repository(root) as repo:
        name: str | None = repo.config["core"].get("remote")
        return name


@contextmanager
def locked_repository(root: Path) -> Iterator[Any]:
    """Give DVC's repository object; no DVC command changes dvc.lock meanwhile. Waits for those at work."""
    with _repository(root, wait_for_lock=True) as repo, repo.lock:
        yield repo


def check_out(stages: Sequence[str], wait_for_lock: bool = False) -> None:
    """Put the outputs of these stages back as dvc.lock has them, and drop those that it does not have.

    Args:
        stages: their names.
        wait_for_lock: as long as another DVC command is at work, instead of three seconds.

    Raises:
        InputError: if DVC cannot, say because its cache lacks them.
    """
    with _repository(Path.cwd(), wait_for_lock) as repo:
        from dvc.exceptions import CheckoutError

        outs = [out for name in stages for stage in repo.stage.collect(name) for out in stage.outs]
        recorded = {str(out) for out in outs if out.hash_info}
        logging.getLogger("dvc_data.index.checkout").setLevel(logging.ERROR)  # it warns of each that has none
        try:
            repo.checkout(targets=list(stages), force=True)
        except CheckoutError as error:  # names those without a record, too
            if recorded.intersection(map(str, error.target_infos)):
                raise


def lock_text(root: Path, stages: Collection[str]) -> str:
    """Return the file dvc.lock with the entries of ``stages`` alone."""
    from dvc.utils.serialize import dumps_yaml

    text: str = dumps_yaml({"schema": "2.0", "stages": read_entries(root, stages)})
    return text


def experiment_ref(commit: str, name: str) -> str:
    """Return the Git reference of the experiment of this name and parent, which `dvc exp show` lists."""
    from dvc.repo.experiments.refs import ExpRefInfo

    return str(ExpRefInfo(commit, name))


def put_entries(root: Path, entries: Mapping[str, Any], stages: Collection[str]) -> None:
    """Make ``entries`` the entries of ``stages``; a stage without one has none afterwards. Others stay."""
    from dvc.utils.serialize import modify_yaml

    with locked_repository(root) as repo:
        if read_entries(root, stages) == dict(entries):
            return
        with modify_yaml(str(root / LOCK_FILE), fs=repo.fs) as tree:
            tree.setdefault("schema", "2.0")
            written = tree.setdefault("stages", {})
            for name in stages:
                if name in entries:
                    written[name] = entries[name]
                else:
                    written.pop(name, None)


@dataclass(frozen=True, slots=True)
class Changes:
    """What of a stage differs from its entry in dvc.lock.

    Attributes:
        never_run: it has no entry; the rest is empty then.
        command: whether its command or the list of its dependencies and outputs changed.
        params: keys with their values before and now.
        deps: dependencies, each with what happened to it as words after its name.
        outs: outputs, likewise.
    """

    never_run: bool = False
    command: bool = False
    params: tuple[tuple[str, str, str], ...] = ()
    deps: tuple[tuple[str, str], ...] = ()
    outs: tuple[tuple[str, str], ...] = ()


class Disk:
    """What DVC finds on the disk, each file and folder read once: many stages depend on the same ones."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, str], tuple[Any, Any]] = {}

    def read(self, item: Any) -> tuple[Any, Any]:
        """Return DVC's hash and notes (``Meta``) of a dependency or output that exists, not of parameters."""
        key = item.fs_path, item.hash_name
        if key not in self._read:
            meta, hash_info = item._get_hash_meta()
            self._read[key] = hash_info, meta
        return self._read[key]

    def change(self, item: Any) -> str | None:
        """Return what happened to a dependency or output since DVC recorded it, as words after its name."""
        if not item.exists:
            return "is missing"
        if not item.hash_info:
            return "is new"
        return "changed" if self.read(item)[0] != item.hash_info else None


def changes_of(node: Any, disk: Disk) -> Changes:
    """Compare a stage with dvc.lock; ``node`` is DVC's own object, as ``planned_stages`` gives it."""
    if not any(out.hash_info for out in node.outs):
        return Changes(never_run=True)
    deps = [dep for dep in node.deps if not _is_params(dep)]
    return Changes(
        command=node.changed_stage(),
        params=tuple(change for dep in node.deps if _is_params(dep) for change in _changed_params(dep)),
        deps=tuple((str(dep), change) for dep in deps if (change := disk.change(dep))),
        outs=tuple((str(out), change) for out in node.outs if (change := _changed_output(out, disk))),
    )


def _changed_output(out: Any, disk: Disk) -> str | None:
    lost = out.hash_info and out.use_cache and out.changed_cache()
    return "is not in DVC's cache" if lost else disk.change(out)


def _is_params(dep: Any) -> bool:
    return hasattr(dep, "params")


def _changed_params(dep: Any) -> Iterator[tuple[str, str, str]]:
    before = dict(flatten(dep.hash_info.value or {}))
    now = dict(flatten(dep.read_params(flatten=False)))
    for key in dict.fromkeys([*now, *before]):
        if before.get(key, _ABSENT) != now.get(key, _ABSENT):
            yield key, _shown(before, key), _shown(now, key)


def _shown(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return "(none)"
    return "null" if values[key] is None else str(values[key])


def stages_in_cache(pairs: Sequence[tuple[Stage, Any]], stale: set[str], disk: Disk) -> set[str]:
    """Return the stale stages that DVC's run cache has, as far as what they would be run with is known.

    That is what lies on the disk, and for outputs of stages in the cache what it would put there. Changes
    what the nodes hold in memory.
    """
    known: dict[str, tuple[Any, Any]] = {}  # outputs that will be restored: path to hash and notes
    unknown: list[str] = []  # outputs that will be made, with contents that nobody knows yet
    found: set[str] = set()
    for stage, node in pairs:
        if stage.name not in stale:
            continue
        outs = _restored(node, known, unknown, disk)
        if outs is None:
            unknown += [out.fs_path for out in node.outs]
        else:
            known |= outs
            found.add(stage.name)
    return found


def _restored(
    node: Any, known: Mapping[str, tuple[Any, Any]], unknown: Sequence[str], disk: Disk
) -> dict[str, tuple[Any, Any]] | None:
    """Return what the cache has for the stage, path to hash and notes; None if nothing or not known."""
    from dvc.exceptions import DvcException

    if node.always_changed or not node.deps:
        return None  # DVC keeps no runs of it
    try:
        for dep in node.deps:
            if _is_params(dep):
                dep.hash_info = dep.get_hash()
                continue
            future = known.get(dep.fs_path)
            if future is None and any(_overlap(dep.fs_path, path) for path in [*known, *unknown]):
                return None
            dep.hash_info, dep.meta = future or disk.read(dep)
            # The cache asks again, for what is not there yet.
            dep.get_hash = partial(lambda known: known, dep.hash_info)
        entry = node.repo.stage_cache._load(node)
        if not entry:
            return None
        made = node.repo.stage_cache._create_stage(entry, wdir=node.wdir)
        return {out.fs_path: (out.hash_info, out.meta) for out in made.outs} if made.outs_cached() else None
    except (DvcException, OSError):  # an input is missing
        return None


def _overlap(first: str, second: str) -> bool:
    return Path(first).is_relative_to(second) or Path(second).is_relative_to(first)


def _run_dvc_with_fast_lock(arguments: Sequence[str]) -> int:
    import dvc.lock
    from dvc.cli import main

    raise_interrupts()  # DVC clears up
    dvc.lock.DEFAULT_TIMEOUT = _LOCK_TIMEOUT
    take, waits = dvc.lock.Lock.lock, list[float]()

    def timed(lock: dvc.lock.Lock) -> None:
        started = time.monotonic()
        try:
            take(lock)
        finally:
            waits.append(time.monotonic() - started)

    dvc.lock.Lock.lock = timed
    try:
        return int(main(list(arguments)))
    finally:
        say_waited(sum(waits))


if __name__ == "__main__":
    sys.exit(_run_dvc_with_fast_lock(sys.argv[1:]))
