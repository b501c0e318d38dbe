"""What the flow says, names and publishes."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.tracking.pipeline_run import REPORT, REPORT_PAGE, PipelineRecord
from components.tracking.store import Store
from pipelines import run
from pipelines.record import how_it_ended, page_line
from pipelines.run import prefect_says_it_once

ADDRESS = (
    "http://host:5000/#/experiments/7/runs/abc/artifacts/report/report.html?workflowType=machine_learning"
)


@pytest.mark.parametrize(
    ("states", "is_stopped", "end"),
    [
        ({"one": "unchanged", "two": "ran"}, False, "completed"),
        ({"one": "ran", "two": "restored"}, True, "completed"),
        ({"one": "not run", "two": "ran"}, False, "completed"),
        ({"one": "failed"}, False, "failed"),
        ({"one": "failed", "two": "stopped"}, True, "failed"),
        ({"one": "ran", "two": "stopped"}, True, "cancelled"),
        ({"one": "stopped"}, True, "cancelled"),
        ({"one": "ran"}, False, "failed"),
        ({}, False, "failed"),
    ],
)
def test_only_good_ends_of_all_stages_complete_a_run(states, is_stopped, end):
    assert how_it_ended(("one", "two"), states, is_stopped) == end


def test_a_failure_and_what_is_below_it_are_said_once(caplog):
    logger = logging.getLogger("prefect.task_runs")
    with caplog.at_level(logging.INFO), prefect_says_it_once():
        logger.error("Task run failed with state: Failed(message='x')", exc_info=True)
        logger.error("""Finished in state NotReady("Upstream task run 'a'")""")
        logger.error("Finished in state Failed('x')")
        logger.error("last failed:\nx")
        logger.info("Finished in state Completed()")
    logger.error("Finished in state Failed('y')")
    said = ["last failed:\nx", "Finished in state Completed()", "Finished in state Failed('y')"]
    assert [r.message for r in caplog.records] == said


@pytest.mark.integration
def test_a_run_with_a_failure(tmp_path, new_workspace):
    stage = "  {name}:\n    cmd: python stage.py {name} source.txt\n    deps: [{dep}]\n    outs: [{out}]\n"
    above, text = "source.txt", "stages:\n"
    for name in ("first", "middle", "last"):
        text += stage.format(name=name, dep=above, out=f"outputs/{name}/out.txt")
        above = f"outputs/{name}/out.txt"
    with new_workspace(tmp_path, text) as workspace:
        (tmp_path / "control" / "first-fails").touch()
        code, output = workspace.run(HTTP_PROXY="http://127.0.0.1:9", ALL_PROXY="socks5://127.0.0.1:9")
    assert code == 1
    assert "NotReady" not in output
    assert "NoneType" not in output
    assert "2 stages not started: first failed: first: error: the input is bad" in output
    assert output.splitlines()[-1] == "virtex: error: first: error: the input is bad"


def opened(root: Path, uri: str) -> PipelineRecord:
    return PipelineRecord(root, Store(None, "7", uri), SimpleNamespace(run_id="abc"))


def test_the_page_has_an_address_where_mlflow_is_a_server(tmp_path: Path) -> None:
    assert opened(tmp_path, "http://host:5000").report_page == ADDRESS
    assert opened(tmp_path, "sqlite:///mlflow.db").report_page is None
    assert PipelineRecord(tmp_path, None, None).report_page is None


@pytest.mark.parametrize("address", [ADDRESS, None])
def test_prefect_links_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    made: dict[str, str] = {}
    for kind in ("markdown", "table", "link"):
        monkeypatch.setattr(
            run,
            f"create_{kind}_artifact",
            lambda *args, key, **more: made.update({key: str(args[0] if args else more)}),
        )
    (tmp_path / REPORT).parent.mkdir(parents=True)
    (tmp_path / REPORT).write_text("# What")
    run.publish(tmp_path, [], address, is_reported=True)
    line = page_line(tmp_path, address)
    assert made["report"] == f"{line}\n\n# What"
    assert (address or str(tmp_path / REPORT_PAGE)) in line
    assert made.get("report-page") == address


def test_a_report_of_an_earlier_run_is_not_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    for kind in ("markdown", "table", "link"):
        monkeypatch.setattr(run, f"create_{kind}_artifact", lambda *args, key, **more: made.append(key))
    (tmp_path / REPORT).parent.mkdir(parents=True)
    (tmp_path / REPORT).write_text("# What")
    run.publish(tmp_path, [], ADDRESS, is_reported=False)
    assert made == ["stages"]
