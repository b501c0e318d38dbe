"""One stage through DVC, without Prefect."""

import contextlib
import threading
import time

import pytest
import zc.lockfile

from components.core.stage_lock import WAITED
from pipelines.dvc_internals import read_plan
from pipelines.graph import Stage
from pipelines.process import Stop
from pipelines.stage import StageRunner

pytestmark = pytest.mark.integration

DVC_YAML = """
stages:
  one:
    cmd: sh stage.sh
    deps: [stage.sh]
    outs: [out.txt, folder]
    meta: {retries: 1, retry_delay: 0.1s}
"""
BENCHMARK_AND_REPORT = """
stages:
  benchmark:
    cmd: sh stage.sh
    deps: [stage.sh]
    outs: [outputs/benchmark/figure.txt]
    meta: {may_fail: true}
  report:
    cmd: ls outputs/benchmark > report.txt
    deps: [outputs/benchmark]
    outs: [report.txt]
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    from dvc.repo import Repo

    Repo.init(str(tmp_path), no_scm=True).close()
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(repository, script, force=False):
    (repository / "stage.sh").write_text("set -e\nmkdir -p folder\n" + script)
    (stage,) = read_plan().stages
    runner = StageRunner(repository, {"GREETING": "hello"}, force, Stop(), max_parallel=1)
    lines = []
    return runner.run(stage, lines.append), lines


@pytest.fixture
def timed(monkeypatch):
    """Seconds that each attempt's process has taken."""
    spans, attempt = [], StageRunner._dvc

    def measured(*arguments):
        started = time.monotonic()
        try:
            return attempt(*arguments)
        finally:
            spans.append(time.monotonic() - started)

    monkeypatch.setattr(StageRunner, "_dvc", measured)
    return spans


def test_waiting_for_a_slot_and_between_attempts_is_no_work(repository, timed):
    (repository / "dvc.yaml").write_text(DVC_YAML.replace("0.1s", "3s"))
    (repository / "stage.sh").write_text(
        "mkdir -p folder; test -e tried || { touch tried; exit 1; }; touch out.txt"
    )
    (stage,) = read_plan().stages
    runner = StageRunner(repository, {}, False, Stop(), max_parallel=1)
    other = contextlib.ExitStack()
    other.enter_context(runner._turns.turn(Stage("other", (), ()), lambda: False))
    threading.Timer(3.0, other.close).start()
    outcome = runner.run(stage, print)
    assert (outcome.state, len(timed)) == ("ran", 2)
    assert outcome.seconds <= sum(timed) + 1  # each wait is longer


def test_waiting_for_the_lock_of_dvc_is_no_work(repository, timed):
    lock = zc.lockfile.LockFile(repository / ".dvc" / "tmp" / "lock")
    threading.Timer(10.0, lock.close).start()  # DVC itself is there long before
    outcome, _ = run(repository, "touch out.txt")
    assert outcome.state == "ran"
    assert outcome.seconds <= sum(timed) - 1


def test_waiting_for_another_process_of_the_same_stage_is_no_work(repository):
    """The stage says how long it waited; here that is longer than it can have run."""
    outcome, lines = run(repository, f"echo '{WAITED}1000.0'; touch out.txt")
    assert (outcome.state, outcome.seconds) == ("ran", 0.0)
    assert not any(WAITED in line for line in lines)


def test_a_report_without_a_benchmark_that_is_not_run(repository):
    """Its earlier results are gone, and stay away, since they are of other data."""
    (repository / "dvc.yaml").write_text(BENCHMARK_AND_REPORT)
    (repository / "stage.sh").write_text("echo 1 > outputs/benchmark/figure.txt")
    (repository / "outputs" / "benchmark").mkdir(parents=True)
    benchmark, report = read_plan().stages
    runner = StageRunner(repository, {}, False, Stop(), max_parallel=1)
    assert runner.run(benchmark, print).state == "ran"
    assert runner.run(report, print).state == "ran"
    assert (repository / "report.txt").read_text() == "figure.txt\n"

    (repository / "outputs" / "benchmark" / "figure.txt").unlink()  # as prepare does
    plan = read_plan(reasons={"benchmark": "no data"})
    assert plan.pending == ("report",)
    runner = StageRunner(repository, {}, False, Stop(), max_parallel=1)
    assert runner.leave_out(benchmark, "no data").state == "not run"
    assert not runner.has_results(benchmark)
    assert runner.run(report, print, [benchmark]).state == "ran"
    assert (repository / "report.txt").read_text() == ""
    assert not (repository / "outputs" / "benchmark" / "figure.txt").exists()
    assert read_plan(reasons={"benchmark": "no data"}).pending == ()


def test_first_failure_leaves_nothing_behind(repository):
    outcome, _ = run(repository, "echo half > out.txt; echo half > folder/a; echo the disk is gone; exit 2")
    assert outcome.state == "failed"
    assert outcome.message.endswith("the disk is gone")
    assert not (repository / "out.txt").exists()
    assert not (repository / "folder").exists()


def test_a_stage_that_cannot_be_started_has_failed(repository):
    (repository / ".virtex").write_text("a file where a folder should be")
    outcome, _ = run(repository, "echo unreached")
    assert outcome.state == "failed"
    assert ".virtex" in outcome.message


def test_run_failure_and_deadline_keep_the_earlier_outputs(repository):
    outcome, lines = run(repository, "echo $GREETING > out.txt; echo good > folder/a; echo working")
    assert (outcome.state, outcome.message) == ("ran", "")
    assert "working" in lines
    good = (repository / "stage.sh").read_text()

    (repository / "dvc.yaml").write_text(DVC_YAML.replace("retries: 1", "deadline: 2s"))
    outcome, _ = run(repository, "echo half > out.txt; sleep 600")
    assert outcome.state == "failed"
    assert "deadline of 2 seconds" in outcome.message
    assert (repository / "out.txt").read_text() == "hello\n"
    assert (repository / "folder" / "a").read_text() == "good\n"

    (repository / "dvc.yaml").write_text(DVC_YAML)
    outcome, _ = run(repository, good.removeprefix("set -e\nmkdir -p folder\n"))
    assert outcome.state == "unchanged"
    outcome, _ = run(repository, good.removeprefix("set -e\nmkdir -p folder\n"), force=True)
    assert outcome.state == "ran"


def test_a_failure_that_may_pass_is_tried_again(repository):
    outcome, lines = run(repository, "echo x >> count; test $(wc -l < count) = 2; echo done > out.txt")
    assert outcome.state == "ran"
    assert "one failed, attempt 1 of 2; again in 0.1 s" in lines


@pytest.mark.parametrize(("status", "attempts"), [(2, 1), (75, 2)])
def test_bad_input_stays_bad(repository, status, attempts):
    outcome, _ = run(repository, f"echo x >> count; exit {status}")
    assert outcome.state == "failed"
    assert len((repository / "count").read_text().split()) == attempts


def test_a_stop_ends_the_wait_for_another_attempt(repository):
    (repository / "dvc.yaml").write_text(DVC_YAML.replace("0.1s", "1h"))
    (repository / "stage.sh").write_text("echo no; exit 1")
    (stage,) = read_plan().stages
    stop = Stop()
    runner = StageRunner(repository, {}, False, stop, max_parallel=1)
    outcome = runner.run(stage, lambda line: "again in" in line and stop.set())
    assert outcome.state == "stopped"
    assert outcome.message.endswith("\nno")


def test_a_report_sees_no_earlier_figures_of_a_benchmark_that_failed(repository):
    (repository / "dvc.yaml").write_text(BENCHMARK_AND_REPORT)
    runner = StageRunner(repository, {}, False, Stop(), max_parallel=1)
    figures = repository / "outputs" / "benchmark" / "figure.txt"

    def run_both(script):
        (repository / "stage.sh").write_text(script)
        benchmark, report = read_plan().stages
        runner.run(benchmark, print)
        absent = [] if runner.has_results(benchmark) else [benchmark]
        return runner.run(report, print, absent), (repository / "report.txt").read_text()

    outcome, report = run_both("exit 3")
    assert (outcome.state, report) == ("ran", "")
    outcome, report = run_both("echo 7 > outputs/benchmark/figure.txt")
    assert (outcome.state, report) == ("ran", "figure.txt\n")
    outcome, report = run_both("exit 4")
    assert (outcome.state, report) == ("restored", "")
    assert figures.read_text() == "7\n"
