"""What is told before the demo starts."""

import re

from components.tracking.pipeline_run import REPORT
from pipelines.commands import run
from pipelines.graph import Plan, Stage

STAGES = (Stage("datasets", (), ("data",)), Stage("report", ("datasets",), (str(REPORT),)))
NOTHING = frozenset[str]()


def test_a_whole_demo_is_told_with_its_time_and_its_pictures(monkeypatch):
    monkeypatch.setenv("VIRTEX_NUM_WORKERS", "2")
    for slower, minutes in ((1, 1), (4, 4)):
        measured = run.PRODUCT_SECONDS * slower
        monkeypatch.setattr(run, "seconds_of_product", lambda seconds=measured: seconds)
        said = "\n".join(run.told(Plan(STAGES, NOTHING), "demo"))
        expected = run.DEMO_SECONDS / 60 * minutes
        assert int(re.search(r"about (\d+) minutes", said)[1]) == round(expected)
        assert "2 cores" in said
        assert "outputs/datasets/scenes.png" in said
        assert "outputs/report/report.html" in said


def test_other_runs_are_not_told():
    assert run.told(Plan(STAGES, NOTHING), "mini") == []
    assert run.told(Plan(STAGES, NOTHING), None) == []
    assert run.told(Plan(STAGES, frozenset(["datasets"])), "demo") == []
    assert run.told(Plan(STAGES[:1], NOTHING), "demo") == []


def test_the_measurement_gives_seconds():
    assert run.seconds_of_product() > 0
