"""The order in which stages start that are all free to: no time is measured, only who comes next."""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines import resources as module
from pipelines.dvc_internals import planned_stages
from pipelines.graph import Stage, StageMeta
from pipelines.resources import Turns, in_order

REPOSITORY = Path(__file__).resolve().parents[2]
WHOLE, HEAVY = StageMeta(cpus="all"), StageMeta(memory_heavy=True)


def stage(name: str, *upstream: str, meta: StageMeta | None = None) -> Stage:
    return Stage(name, upstream, (), meta=meta or StageMeta())


# In dvc.yaml's order; `train` and `choose` are what the others wait for.
STAGES = [
    stage("data"), stage("words", "data"), stage("train", "words", meta=WHOLE), stage("choose", "train"),
    stage("other", "data"), stage("heavy", "choose", meta=HEAVY), stage("heavier", "choose", meta=HEAVY),
    stage("quick", "choose"), stage("report", "other", "heavy", "heavier", "quick"),
]  # fmt: skip
BY_NAME = {one.name: one for one in STAGES}


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(module, "_TOGETHER_SECONDS", 0.0)


class Started:
    """Stages that wait in threads of their own, and the order in which they start."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.order: list[str] = []
        self.given_up = threading.Event()
        self._ends: dict[str, threading.Event] = {}
        self._threads: dict[str, threading.Thread] = {}

    def wants(self, *names: str) -> None:
        """Let stages come, one after the other; each has started, or tried in vain, when the next comes."""
        for name in names:
            tried, self._ends[name] = threading.Event(), threading.Event()
            self._threads[name] = threading.Thread(target=self._run, args=(name, tried), daemon=True)
            self._threads[name].start()
            assert tried.wait(60)

    def ends(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
            self._threads[name].join(60)

    def _run(self, name: str, tried: threading.Event) -> None:
        def keep_waiting() -> bool:
            tried.set()
            return not self.given_up.wait(0.002)

        with self.turns.turn(BY_NAME[name], keep_waiting) as resources:
            if resources:
                self.order.append(name)
                tried.set()
                self._ends[name].wait(60)


@pytest.fixture
def started() -> Iterator[Started]:
    made = Started(Turns(STAGES, 2))
    yield made
    made.given_up.set()
    made.ends(*made._ends)


def wait_for(started: Started, number: int) -> list[str]:
    """The first stages that started, once there are so many."""
    while len(started.order) < number:
        threading.Event().wait(0.002)
    return started.order


def test_what_most_wait_for_comes_first_whoever_asked_first() -> None:
    started = Started(Turns(STAGES, 1))
    started.wants("data")
    started.wants("other", "words")
    started.ends("data")
    assert wait_for(started, 2) == ["data", "words"]
    started.ends("words", "other")
    started.order.clear()
    started.wants("choose", "quick", "heavier", "heavy")
    started.ends("choose")
    for number in (2, 3, 4):
        started.ends(wait_for(started, number)[-1])
    assert started.order == ["choose", "heavy", "heavier", "quick"]  # among equals dvc.yaml's order


def test_who_has_waited_long_lets_those_come_that_an_end_sets_free(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(module, "_TOGETHER_SECONDS", 1.0)
    started = Started(Turns(STAGES, 1))
    started.wants("choose", "quick")
    clock.now += 1000.0
    started.ends("choose")
    threading.Event().wait(0.05)  # `quick` tries, time and again
    assert started.order == ["choose"]
    started.wants("heavy")
    clock.now += 1.0
    started.ends(wait_for(started, 2)[-1])
    assert wait_for(started, 3) == ["choose", "heavy", "quick"]
    started.ends("quick")


def test_a_stage_that_many_wait_for_has_every_core(started: Started) -> None:
    started.wants("train", "other", "quick")
    assert started.order == ["train"]
    started.ends("train")
    assert wait_for(started, 3)[0] == "train"
    assert set(started.order) == {"train", "other", "quick"}


def test_who_lacks_memory_lets_others_pass_but_not_those_who_want_it_too(started: Started) -> None:
    with Turns([], 1).turn(BY_NAME["heavy"], lambda: False):  # another run's
        started.wants("heavy", "heavier", "quick")
        assert started.order == ["quick"]
        assert started.turns.lacks_resources(BY_NAME["heavy"])
        assert not started.turns.lacks_resources(BY_NAME["heavier"])
    assert wait_for(started, 2) == ["quick", "heavy"]
    started.ends("heavy")
    assert wait_for(started, 3)[2] == "heavier"


def test_a_run_that_is_stopped_starts_nothing_more(started: Started) -> None:
    started.wants("train", "quick")
    started.given_up.set()
    started.ends("quick", "train")
    assert started.order == ["train"]


def test_the_demo_pretrains_early_and_shows_quick_figures_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc.repo import Repo

    Repo.init(str(tmp_path), no_scm=True).close()
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    with planned_stages() as found:
        names = [one.name for one in in_order([planned for planned, _ in found])]
        heavy = {planned.name for planned, _ in found if planned.meta.memory_heavy}
    assert heavy == {"caption"}  # the demo's detectors are small
    early = ["sources", "datasets", "pretrain", "select", "baseline@random", "voc07@virtex"]
    assert [name for name in names if name in early] == early
    assert set(names[2:5]) == {"tokenize", "lmdb@train", "lmdb@val"}
    quick, long = ["voc07@virtex", "probes@virtex", "caption"], ["classification", "detection"]
    first_long = min(names.index(name) for name in names if name.partition("@")[0] in long)
    assert all(names.index(name) < first_long for name in quick)
