"""``virtex run`` up to the flow."""

import os
import signal

import pytest

from components.tracking.pipeline_run import REPORT
from pipelines import cli
from pipelines.commands import run
from pipelines.graph import Plan, Stage


def test_a_bad_number_of_stages_at_a_time(small_workspace, monkeypatch, capsys):
    monkeypatch.setenv("VIRTEX_MAX_PARALLEL", "many")
    assert cli.main(["run"]) == 2
    assert "VIRTEX_MAX_PARALLEL='many'" in capsys.readouterr().err


def test_a_run_without_the_report_does_not_show_an_old_one(small_workspace, monkeypatch, capsys):
    reported = Stage("report", (), (str(REPORT),))
    (small_workspace / REPORT).parent.mkdir(parents=True)
    (small_workspace / REPORT).write_text("| old |")
    for stages, shown in (((reported,), True), ((Stage("tokenize", (), ("data/tokenizer",)),), False)):
        plan = Plan(stages, frozenset(stage.name for stage in stages))
        monkeypatch.setattr("pipelines.preparation.prepare", lambda *_, plan=plan: (plan, []))
        assert cli.main(["run"]) == 0
        output = capsys.readouterr().out
        assert "Nothing to do: all 1 stages" in output
        assert ("| old |" in output) == shown


def test_several_presets_are_a_family_of_their_own(small_workspace, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(run, "run_family", lambda asked: started.append(asked) or 0)
    command = ["run", "--preset", "tiny", "--preset", "tiny2", "--set", "a.b=1", "--targets", "voc07@virtex"]
    assert cli.main(command) == 0
    (asked,) = started
    assert [(row.name, row.preset) for row in asked.family.rows] == [("tiny", "tiny"), ("tiny2", "tiny2")]
    assert (asked.family.name, asked.preset) == ("presets", None)
    assert (asked.overrides, asked.targets) == (["a.b=1"], ["voc07@virtex"])
    assert cli.main([*command, "--force"]) == 2
    assert "--force" in capsys.readouterr().err


def test_an_interrupt_before_the_flow_starts_is_kept(small_workspace, monkeypatch, capsys):
    plan = Plan((Stage("tokenize", (), ("data/tokenizer",)),), frozenset())

    def interrupted(*_):
        os.kill(os.getpid(), signal.SIGINT)
        return plan, []

    monkeypatch.setattr("pipelines.preparation.prepare", interrupted)
    monkeypatch.setattr(run, "_run_flow", lambda *_: pytest.fail("the flow was started"))
    assert cli.main(["run"]) == 130
    assert "Stopping" in capsys.readouterr().out
