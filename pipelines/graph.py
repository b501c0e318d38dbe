"""The stage graph as DVC itself plans it.

DVC's private interfaces are used in this module, in pipelines.status.staleness and in
pipelines.cluster.lock_entries only.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from components.core.errors import InputError
from components.core.paths import benchmark_of
from components.params import Download, read_section
from components.sources.fingerprint import changed_sources
from pipelines.stage_meta import NO_META, StageMeta, read_meta

_NONE: Mapping[str, str] = MappingProxyType({})
SOURCES = "sources"  # looks at data of one's own; see components/stages/sources.py


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage, or one item of a matrix stage, of dvc.yaml.

    Attributes:
        name: DVC's address, such as ``lmdb@train``.
        upstream: names of the stages that it waits for.
        outs: its outputs, relative to the repository root.
        params: the keys of params.yaml that it depends on, such as ``textual_head`` or ``baseline.seed``.
        meta: how it wants to be run.
        deps: files and folders that it depends on, relative to the repository root.
    """

    name: str
    upstream: tuple[str, ...]
    outs: tuple[str, ...]
    params: tuple[str, ...] = ()
    meta: StageMeta = NO_META
    deps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages in an order that respects the graph, and those that DVC finds unchanged.

    A stage counts as unchanged only if everything above it is unchanged too.

    Attributes:
        not_run: why a stage is not run, by name: the run lacks its data. One that is unchanged too has the
            empty results that ``dvc repro`` leaves.
    """

    stages: tuple[Stage, ...]
    unchanged: frozenset[str]
    not_run: Mapping[str, str] = field(default_factory=dict)

    @property
    def pending(self) -> tuple[str, ...]:
        """Names of the stages that something has to be done for."""
        done = {*self.unchanged, *self.not_run}
        return tuple(stage.name for stage in self.stages if stage.name not in done)

    def makes(self, path: Path) -> bool:
        """Whether ``path``, relative to the repository root, is an output of one of the stages."""
        return any(str(path) in stage.outs for stage in self.stages)


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
        not_run = {name: why for name in map(_address, nodes) if (why := reasons.get(base_name(name)))}
        return Plan(stages, _unchanged(repo, graph, nodes, allow_missing, not_run), not_run)


def base_name(stage: str) -> str:
    """Return a stage's section in params.yaml: ``voc07`` of ``voc07@random``, the task of a ``detection``."""
    name, _, item = stage.partition("@")
    return benchmark_of(name, item)[0]


def _address(node: Any) -> str:
    address: str = node.addressing
    return address


@contextmanager
def planned_stages(targets: Sequence[str] = ()) -> Iterator[list[tuple[Stage, Any]]]:
    """The same stages as ``read_plan``'s, each with DVC's own object, which is open until the end.

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
        for target in targets:
            _check_target(repo, graph, target)
        nodes = plan_repro(graph, collect_stages(repo, targets or [PROJECT_FILE], glob=bool(targets)))
        yield repo, graph, [node for node in nodes if not node.is_data_source]


def share_cache(owner: Path, workspace: Path) -> None:
    """Let the DVC repository at ``workspace`` keep its outputs in the cache of the one at ``owner``.

    The setting goes into DVC's local configuration, which Git ignores.
    """
    with _repository(owner) as repo:
        folder = str(Path(repo.cache.local_cache_dir).resolve())
    with _repository(workspace) as repo, repo.config.edit("local") as settings:
        settings["cache"]["dir"] = folder


def cache_folder(root: Path) -> Path:
    """Where the DVC repository there keeps its outputs."""
    with _repository(root) as repo:
        return Path(repo.cache.local_cache_dir)


def default_remote(root: Path) -> str | None:
    """Name of the remote that ``dvc push`` uses there."""
    with _repository(root) as repo:
        name: str | None = repo.config["core"].get("remote")
        return name


@contextmanager
def locked_repository(root: Path) -> Iterator[Any]:
    """DVC's repository object; no DVC command changes dvc.lock meanwhile. Waits for those at work."""
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
        try:
            repo.checkout(targets=list(stages), force=True)
        except CheckoutError as error:  # names those without a record, too
            if recorded.intersection(map(str, error.target_infos)):
                raise


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
    """Names of the unchanged stages. One that is not run is no change for those below it."""
    from dvc.lock import LockError

    found: set[str] = set()
    try:
        with repo.lock:
            for node in nodes:
                upstream = list(graph.successors(node))
                above = {dep.addressing for dep in upstream if not dep.is_data_source}
                is_on_record = all(out.hash_info for out in node.outs)  # DVC does not ask for it
                if node.always_changed and _is_as_before(node):
                    node.always_changed = False
                if above <= {*found, *not_run} and is_on_record and not node.changed(allow_missing, upstream):
                    found.add(node.addressing)
    except LockError:  # another DVC command is at work: let each stage ask for itself
        return frozenset()
    return frozenset(found)


def _is_as_before(node: Any) -> bool:
    """Whether a stage that DVC runs every time would find what it has found: `sources` is the only one."""
    return node.addressing == SOURCES and not changed_sources(read_section(Download))


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


@contextmanager
def _repository(root: Path, wait_for_lock: bool = False) -> Iterator[Any]:
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo
    from dvc.scm import SCMError

    try:
        with Repo(str(root), _wait_for_lock=wait_for_lock) as repo:
            yield repo
    except NotDvcRepoError as error:
        raise InputError(f"{root} is not a DVC repository: run `dvc init` there") from error
    except SCMError as error:
        raise InputError(f"{error}: DVC needs one; get the project with `git clone`") from error
    except DvcException as error:
        raise InputError(f"dvc.yaml: {error}") from error
