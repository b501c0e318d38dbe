"""What the flow says, names and publishes."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from components.tracking.pipeline_run import PipelineRecord
from components.tracking.store import Store
from pipelines.record import how_it_ended

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
